"""Taking out what tells whose machine something is from: names, UUIDs, serial numbers, addresses.

Each thing is replaced by another of the same form, the same one everywhere: two GPUs stay two, and
what was joined on a UUID still joins, so a redacted recording is diagnosed like the original. Versions,
PCI bus ids and process ids stay; they tell nothing of a person.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

#: Names that half of all machines and accounts have, and that are words of the reports themselves.
COMMON: Final = frozenset(
    (
        *(
            "root",
            "user",
            "users",
            "host",
            "hosts",
            "home",
            "localhost",
            "nobody",
            "runner",
            "admin",
        ),
        *("ubuntu", "debian", "linux", "docker", "gpu", "cpu", "cuda", "torch", "tensorflow"),
        *("python", "none", "null", "true", "false"),
    )
)

#: What stands for the name of a host, and for that of a person.
HOST: Final = "host"
USER: Final = "user"

#: Keys whose whole value is a name of a host or a person, or a number that is given to one device.
HOST_KEYS: Final = frozenset({"hostname", "host_name", "proc/sys/kernel/hostname", "HOSTNAME"})
USER_KEYS: Final = frozenset({"user", "username", "USER", "LOGNAME"})

#: Below these keys four numbers with dots between are a version: 9.10.2.21 of cuDNN.
VERSION_KEYS: Final = frozenset({"version", "packages", "build", "driver", "kernel"})

_UUID = re.compile(
    r"[0-9a-f]{8}([-_])[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}(?![0-9a-f])",
    re.IGNORECASE,
)
#: CUDA takes the beginning of a UUID for the whole where it is unambiguous.
_SHORT_UUID = re.compile(
    r"\b(GPU|MIG)-([0-9a-f]{1,8}(?:-[0-9a-f]{0,4})*)(?![0-9a-f-])", re.IGNORECASE
)
#: Ids of containers and machines.
_HEX = re.compile(r"(?<![0-9a-zA-Z])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9a-zA-Z])")
_MAC = re.compile(r"(?<![0-9a-zA-Z:])(?:[0-9a-f]{2}:){5}[0-9a-f]{2}(?![0-9a-zA-Z:])", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.]*\w)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:])", re.IGNORECASE)
_HOME = re.compile(r"(/home/|/Users/|\\Users\\|/export/home/)([^/\\\s:;,\"'<>]+)")
#: Account and server of a URL. A page of the web is nobody's, unless it is asked for by an account.
_AUTHORITY = re.compile(r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*://)([^\s/?#@]*@)?([\w.-]*)", re.I)
#: The same said by a URL's parameters, as libpq takes them.
_PARAMETER = re.compile(r"([?&])(host|user)=([^&\s]*)")
_SERIAL = re.compile(r"serial", re.IGNORECASE)
#: The same said in a text: ``Serial Number : 0324218012345``. A console or a bus that is serial has none.
_SERIAL_SAID = re.compile(
    r"(\bserial(?:[ _-]?(?:number|num|no\.?))?\s*[:=#]?\s*)((?=[A-Z-]*[0-9])[0-9A-Z-]{5,})",
    re.IGNORECASE,
)


def names_here() -> set[str]:
    """Names of this machine and this user, which a text may say also where nothing marks them."""
    import getpass
    import socket
    from contextlib import suppress
    from pathlib import Path

    host = socket.gethostname()
    names = {host, host.partition(".")[0]}
    with suppress(OSError, KeyError, RuntimeError, ImportError):  # a user id without an account
        names |= {getpass.getuser(), Path.home().name}
    return names - {""}


def without_password(word: str) -> str:
    """The word with the password of a database URL masked, as in ``--store postgresql://…``."""
    word = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", word)
    return re.sub(r"([?&](?:ssl)?password=)[^&\s]*", r"\1***", word)


def redact(value: Any, names: Iterable[str] = ()) -> Any:
    """The JSON value or text without what identifies its machine. `value` itself stays as it is.

    names: further names of hosts and people, beyond those that the value itself gives away (a host
    name under its key, the owner of a home folder).
    """
    return Redactor(value, names).apply(value)


class Redactor:
    """Learns from one value what must go; `apply` then takes it out of this value or of any other."""

    def __init__(self, value: Any, names: Iterable[str] = ()) -> None:
        self._given: dict[str, dict[str, str]] = {}
        hosts: set[str] = set()
        users: set[str] = set(names)
        for key, text in _texts(value, ""):
            for uuid in _UUID.finditer(text):
                self._uuid(uuid)
            users.update(match[2] for match in _HOME.finditer(text))
            if key in HOST_KEYS:
                hosts |= {text.strip(), text.strip().partition(".")[0]}
            if key in USER_KEYS:
                users.add(text.strip())
            if _SERIAL.search(key):
                self._serial(text)
            for said in _SERIAL_SAID.finditer(text):
                self._serial(said[2])
        self._names = {
            name: word
            for word, found in ((USER, users), (HOST, hosts))
            for name in found
            if len(name) > 1 and name.lower() not in COMMON
        }
        alternatives = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True)))
        self._name = re.compile(rf"(?<![0-9A-Za-z])(?:{alternatives})(?![0-9A-Za-z])")
        # Where one was told as such, it is one in every other text too; a short one may be anything.
        serials = [one for one in self._given.get("serial", {}) if len(one) > 5]
        self._known_serial = re.compile(
            rf"(?<![0-9A-Za-z])(?:{'|'.join(map(re.escape, serials))})(?![0-9A-Za-z])"
        )
        self._has_serials = bool(serials)

    def apply(self, value: Any, names: bool = True) -> Any:
        """names: also where nothing marks a name as one, which may be any word."""
        return self._apply(value, "", False, names)

    def _apply(self, value: Any, key: str, versions: bool, names: bool) -> Any:
        if isinstance(value, Mapping):
            return {
                self._text(name, versions, names="/" in name): self._apply(
                    item, name, versions or name in VERSION_KEYS, names
                )
                for name, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._apply(item, key, versions, names) for item in value]
        if _SERIAL.search(key) and isinstance(value, str | int) and not isinstance(value, bool):
            return self._serial(str(value))
        return self._text(value, versions, names) if isinstance(value, str) else value

    def _text(self, text: str, versions: bool, names: bool = True) -> str:
        text = _UUID.sub(self._uuid, text)
        text = _SHORT_UUID.sub(self._short_uuid, text)
        text = _SERIAL_SAID.sub(lambda match: match[1] + self._serial(match[2]), text)
        if self._has_serials:
            text = self._known_serial.sub(lambda match: self._serial(match[0]), text)
        text = _HEX.sub(self._hex, text)
        text = _MAC.sub(self._mac, text)
        text = _PARAMETER.sub(self._parameter, _AUTHORITY.sub(self._authority, text))
        if not versions:
            text = _IPV6.sub(self._address, _IPV4.sub(self._address, text))
        if names and self._names:
            text = self._name.sub(lambda match: self._names[match[0]], text)
        return _HOME.sub(
            lambda match: match[0] if match[2].lower() in COMMON else f"{match[1]}{USER}", text
        )

    def _stand_in(self, kind: str, original: str, form: Callable[[int], str]) -> str:
        known = self._given.setdefault(kind, {})
        return known.setdefault(original, form(len(known) + 1))

    def _serial(self, number: str) -> str:
        if re.fullmatch(r"serial-\d+", number):
            return number  # a stand-in of an earlier pass
        return self._stand_in("serial", number, lambda n: f"serial-{n}")

    def _uuid(self, match: re.Match[str]) -> str:
        plain = match[0].lower().replace("_", "-")
        if plain.endswith("-0000-0000-0000-000000000000"):
            return match[0]  # a stand-in of an earlier pass
        new = self._stand_in("uuid", plain, lambda n: f"{n:08x}-0000-0000-0000-000000000000")
        return new.replace("-", match[1])

    def _short_uuid(self, match: re.Match[str]) -> str:
        wanted = match[2].lower()
        if re.fullmatch(r"0000[0-9a-f]{4}(-0000)*-?0*", wanted):
            return match[0]
        whole = [new for old, new in self._given.get("uuid", {}).items() if old.startswith(wanted)]
        new = whole[0][:8] if len(whole) == 1 else f"{0xFFFF0000 + len(wanted):08x}"
        return f"{match[1]}-{new}"

    def _hex(self, match: re.Match[str]) -> str:
        size = len(match[0])
        return self._stand_in("hex", match[0], lambda n: f"{n:0{size}x}")

    def _mac(self, match: re.Match[str]) -> str:
        form = "02:00:00:00:{:02x}:{:02x}"
        return self._stand_in("mac", match[0].lower(), lambda n: form.format(n >> 8 & 255, n & 255))

    def _authority(self, match: re.Match[str]) -> str:
        scheme, account, host = match[1], match[2] or "", match[3]
        if not account and scheme.lower() in ("http://", "https://"):
            return match[0]
        user, colon, _ = account.rstrip("@").partition(":")
        password = f"{colon}***" if colon else ""
        return f"{scheme}{_plain(user, USER)}{password}{'@' if account else ''}{_plain(host, HOST)}"

    def _parameter(self, match: re.Match[str]) -> str:
        return f"{match[1]}{match[2]}={_plain(match[3], match[2])}"

    def _address(self, match: re.Match[str]) -> str:
        """Addresses that stand for no machine stay; the others become those kept for documents:
        https://www.rfc-editor.org/rfc/rfc5737 and rfc3849."""
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:  # a PCI bus id, a time of day
            return match[0]
        if (
            address.is_loopback
            or address.is_unspecified
            or match[0].startswith(("192.0.2.", "2001:db8:"))
        ):
            return match[0]
        if address.version == 4:
            return self._stand_in("ipv4", str(address), lambda n: f"192.0.2.{n % 256}")
        return self._stand_in("ipv6", str(address), lambda n: f"2001:db8::{n:x}")


def _plain(name: str, stand_in: str) -> str:
    """The stand-in of a name; what is none (nothing, an address, a folder of sockets) stays."""
    is_name = re.search(r"[^\W\d]", name) and not name.startswith("/")
    return stand_in if is_name and name.lower() not in COMMON else name


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Each text in a JSON value, with the key that it stands under; keys are texts of their own."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield "", name
            yield from _texts(item, name)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, str):
        yield key, value
