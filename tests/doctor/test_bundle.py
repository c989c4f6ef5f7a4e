from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devbench.doctor import BundleError, Recording, bundle, diagnose, dump, load
from devbench.doctor.bundle import parse
from devbench.doctor.facts import gather
from devbench.doctor.recording import Said
from tests.doctor import faults
from tests.doctor.machines import apple, bare_cpu, one_gpu, with_files, with_variables


@pytest.mark.parametrize(
    "make", [one_gpu, apple, faults.sick, faults.lost, faults.library_broken, faults.set_late]
)
def test_a_saved_machine_is_read_back_as_it_was(make: Callable[[], Recording]) -> None:
    assert parse(dump(make()), "file") == make()


@pytest.mark.parametrize("make", [faults.sick, faults.hidden, faults.lost, faults.cpu_wheel])
def test_a_redacted_machine_has_the_same_findings_and_none_of_its_names(
    make: Callable[[], Recording],
) -> None:
    machine = with_variables(make(), LD_LIBRARY_PATH="/home/jane/lib", NCCL_X="10.11.12.13")
    text = dump(machine, redacted=True)
    for secret in ("tempest", "jane", "aaaa-bbbb-cccc", "10.11.12.13"):
        assert secret in dump(machine)
        assert secret not in text
    assert [one.id for one in diagnose(parse(text, "file")).findings] == [
        one.id for one in diagnose(machine).findings
    ]


def test_a_group_named_like_its_user_is_a_name_too() -> None:
    machine = one_gpu()
    system = replace(machine.system, groups=("mmuster", "smith-lab", "video", "docker"))
    text = dump(replace(machine, system=system, packages=()), redacted=True, names=["deepthought"])
    assert parse(text, "file").system.groups == ("user", "user", "video", "docker")
    said = Said("dmesg", "nvidia on deepthought")
    text = dump(replace(machine, commands=(said,)), redacted=True, names=["deepthought"])
    assert parse(text, "file").commands[0].output == "nvidia on user"


PCI = {"bus_id": "0000:01:00.0", "vendor": "0x10de", "device": "0x1", "device_class": "0x030000"}


def edited(edit: Callable[[dict[str, Any]], None]) -> str:
    data = json.loads(dump(bare_cpu()))
    edit(data)
    return json.dumps(data)


def put(place: str, value: object) -> Callable[[dict[str, Any]], None]:
    def edit(data: dict[str, Any]) -> None:
        *path, last = place.split("|")
        for name in path:
            data = data[name]
        data[last] = value

    return edit


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (dump(bare_cpu())[:900], "is not a whole JSON file: it ends too early"),
        ("", "is not a whole JSON file"),
        ("[]", "is not a recorded machine of `devbench doctor --save`"),
        ('{"schema": "devbench.run/1"}', "its schema is 'devbench.run/1'"),
        ('{"schema": "devbench.machine/2"}', "upgrade it"),
        ('{"schema": "devbench.machine/1"}', "system is missing"),
        ("[" * 100_000, "nested too deeply"),
        ('{"schema": "devbench.machine/1", "x": ' + "[" * 50 + "]" * 50 + "}", "nested too deeply"),
        ('{"schema": NaN}', "NaN is not a number"),
        (edited(put("sistem", 1)), "sistem is not a field that this devbench knows"),
        (edited(put("files|proc/cpuinfo", 7)), "files.proc/cpuinfo is 7; text is expected"),
        (edited(put("variables|X", None)), "variables.X is null; text is expected"),
        (edited(put("frameworks", 7)), "frameworks is 7; a list is expected"),
        (edited(put("calls", {"nvmlInit()": 0, "nvmlDeviceGetCount()": 10**20})), "10000000000"),
        (edited(put("calls", {"nvmlInit()": 0, "nvmlDeviceGetCount()": "x"})), "as NVML does"),
        (edited(put("files|proc/cpuinfo", "x" * 600_000)), "a text in it has 585 KiB; at most 512"),
        (edited(put("variables|X", "x" * 200_000)), "variables.X is longer than 128 KiB"),
        (
            edited(put("files|proc/self/cgroup", "0::" + "/a" * 6000)),
            "is deeper than control groups",
        ),
        (edited(put("pci", [PCI] * 129)), "pci has 129 entries; at most 128"),
        (edited(lambda data: data["frameworks"].extend(data["frameworks"] * 8)), "has 18 entries"),
        (
            edited(put("calls", {"nvmlDeviceGetMaxMigDeviceCount(gpu0)": 129})),
            "Count(gpu0) with 129",
        ),
    ],
)
def test_a_file_that_is_no_recorded_machine_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(BundleError, match=r"^machine\.json") as refused:
        parse(text, "machine.json")
    assert says in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "../x", "proc/../../x", "proc//x", "proc/./x", "", "C:/x", "x\n"),
        *("\0", "a" * 300, "proc/cpuinfo/x", "x/" * 600 + "x"),
    ],
)
def test_a_path_that_could_lead_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(BundleError, match=r"machine\.json: files"):
        parse(edited(put(f"files|{path}", "text")), "machine.json")


def test_a_cgroup_with_a_systemd_escape_survives_save_and_load() -> None:
    r"""systemd writes a "-" in a name as ``\x2d``."""
    group = r"user.slice/app-gnome\x2dterminal.scope"
    files = {
        "proc/self/cgroup": f"0::/{group}\n",
        f"sys/fs/cgroup/{group}/cpu.max": "150000 100000",
    }
    machine = replace(bare_cpu(), files={**bare_cpu().files, **files})
    for redacted in (False, True):
        read = parse(dump(machine, redacted=redacted), "file")
        assert gather(read).host.usable_cpus == 1.5


def test_a_path_with_a_backslash_is_refused_where_that_separates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle, "SEPARATES", True)
    with pytest.raises(BundleError, match=r"machine\.json: files"):
        parse(edited(put("files|a\\b", "text")), "machine.json")


def test_a_mount_that_leads_out_of_the_folder_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000")
    mount = "31 24 0:27 / /../../../../../../../../.." + str(tmp_path)
    machine = with_files(
        bare_cpu(),
        proc__self__mountinfo=f"{mount} rw - cgroup2 cgroup2 rw\n",
        proc__self__cgroup="0::/\n",
    )
    assert diagnose(parse(dump(machine), "file")).findings == ()


def test_an_oversized_or_missing_file_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "machine.json"
    file.write_text(dump(bare_cpu()))
    assert load(file) == bare_cpu()
    with pytest.raises(BundleError, match="there is no file"):
        load(tmp_path / "none.json")
    with pytest.raises(BundleError, match="cannot be read: Is a directory"):
        load(tmp_path)
    monkeypatch.setattr(bundle, "MAX_BYTES", 100)
    with pytest.raises(BundleError, match="at most"):
        load(file)


def test_what_may_never_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(BundleError, match="is no file"):
            load(path)


def test_an_archive_is_refused_and_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "machine.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../machine.json", "0" * 10_000_000)
    with pytest.raises(BundleError, match=r"machine\.zip is not a recorded machine"):
        load(tmp_path / "machine.zip")


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_FILES", 3)
    with pytest.raises(BundleError, match="at most 3"):
        parse(dump(bare_cpu()), "file")


def test_a_driver_that_answered_one_call_only_is_a_machine_all_the_same() -> None:
    text = edited(put("calls|nvmlInit()", 0))
    assert diagnose(parse(text, "machine.json")).exit_code() == 0


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**20)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
WHOLE = json.loads(dump(one_gpu()))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path] + [place for key, item in items for place in places(item, (*path, key))]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(places(WHOLE)[1:]), JSON)
def test_a_bundle_with_anything_anywhere_is_read_or_refused(
    place: tuple[Any, ...], value: Any
) -> None:
    data = json.loads(json.dumps(WHOLE))
    at = data
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    try:
        recording = parse(json.dumps(data), "file")
    except BundleError:
        return
    diagnose(recording)
