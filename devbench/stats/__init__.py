"""From measurements to results: intervals, percentiles, quality (numpy and scipy)."""
