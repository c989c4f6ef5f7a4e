"""Did anything get slower? Two sides compared (`compare`), many runs in a row (`history`)."""
