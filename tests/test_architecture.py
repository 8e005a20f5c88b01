"""The house stands as it is drawn: who imports whom, how long a file may be, and what no file may call.

Read with `ast`, so that nothing is imported and a mention in a comment does not count.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 350
# Whom each may import of ours, besides itself. `doors` are the scripts on top, and tools/ and benchmarks/.
MAY_IMPORT = {
    "utils": set(),
    "logger": {"utils"},
    "base": {"logger", "utils"},
    "data_loader": {"base", "logger", "utils"},
    "model": {"base", "logger", "utils"},
    "trainer": {"base", "logger", "utils"},
    "parse_config": {"base", "data_loader", "logger", "model", "trainer", "utils"},
    "wiring": {"base", "data_loader", "logger", "model", "parse_config", "trainer", "utils"},
}
FOLDERS = [name for name in MAY_IMPORT if name != "parse_config"]
HIDDEN_OR_DATA = {"data", "saved", "docs", "configs", "tests"}


def own_files():
    """Every Python file of the project but the tests, by its path from the root."""
    files = [*ROOT.glob("*.py")]
    for folder in ROOT.iterdir():
        if folder.is_dir() and folder.name not in HIDDEN_OR_DATA and not folder.name.startswith((".", "_")):
            files += folder.rglob("*.py")
    return sorted(path.relative_to(ROOT) for path in files if "__pycache__" not in path.parts)


FILES = own_files()
TREES = {path: ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path)) for path in FILES}
OURS = {path.parts[0].removesuffix(".py") for path in FILES}


def room_of(path):
    """`model` for model/vgg.py, `parse_config` for parse_config.py, `doors` for the other scripts and folders."""
    first = path.parts[0].removesuffix(".py")
    return first if first in MAY_IMPORT else "doors"


def imported_by(tree):
    """(line, module) of every import of one of our packages, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.startswith(".") or name.partition(".")[0] in OURS)


def dotted(node):
    """The text of `a.b.c`, or of its end where the beginning is no name: `.b.c`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def where(path, node):
    return f"{path}:{node.lineno}"


def everywhere(kind):
    """(path, node) of every node of a kind."""
    return [(path, node) for path, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, kind)]


def test_the_rooms_that_are_drawn_are_there():
    rooms = {room_of(path) for path in FILES}

    assert rooms == {*MAY_IMPORT, "doors"}
    assert {Path("train.py"), Path("test.py"), Path("base/base_trainer.py")} <= set(FILES)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_lies_below_it(room):
    wrong = [
        f"{path}:{line} imports {module}"
        for path, tree in TREES.items()
        if room_of(path) == room
        for line, module in imported_by(tree)
        if module.partition(".")[0] not in MAY_IMPORT[room] | {room}
    ]

    assert wrong == []


def test_nobody_imports_a_script():
    # Root test.py shadows the standard library's `test`, and a script that is imported runs twice.
    wrong = [
        f"{path}:{line} imports {module}"
        for path, tree in TREES.items()
        if room_of(path) != "doors"
        for line, module in imported_by(tree)
        if module.partition(".")[0] not in MAY_IMPORT
    ]

    assert wrong == []


def test_modules_do_not_import_each_other_in_a_circle():
    names = {".".join(path.with_suffix("").parts): path for path in FILES}
    below = {
        name: {module for _, module in imported_by(TREES[path]) if module in names and module != name}
        for name, path in names.items()
    }

    while below:
        free = {name for name, others in below.items() if not others & below.keys()}
        assert free, f"in a circle, or above one: {sorted(below)}"
        below = {name: others for name, others in below.items() if name not in free}


def test_imports_of_ours_stand_at_the_top_of_a_file():
    wrong = [
        f"{where(path, node)} imports {module}"
        for path, node in everywhere(ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for _, module in imported_by(node)
    ]

    assert wrong == []


def test_no_star_imports_and_no_relative_ones():
    wrong = [
        where(path, node)
        for path, node in everywhere(ast.ImportFrom)
        if node.level or any(alias.name == "*" for alias in node.names)
    ]

    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_can_be_read_in_one_sitting(path):
    num_lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())

    assert num_lines <= MAX_LINES


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py"], ids=str)
def test_a_file_begins_by_saying_what_it_is(path):
    assert ast.get_docstring(TREES[path])


def test_there_are_no_asserts_outside_the_tests():
    assert [where(path, node) for path, node in everywhere(ast.Assert)] == []


def public_functions(tree):
    """Functions, methods and constructors that a config or another file can reach, with their class."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node, False
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and (inner.name == "__init__" or not inner.name.startswith("_")):
                    yield inner, not any(dotted(decorator) == "staticmethod" for decorator in inner.decorator_list)


def parameters_of(function, *, is_method):
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args][is_method:]
    rest = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [*positional, *arguments.kwonlyargs, *rest]


@pytest.mark.parametrize("room", ["model", "data_loader"])
def test_what_a_config_is_held_against_is_annotated(room):
    wrong = [
        f"{where(path, function)} {function.name}({parameter.arg})"
        for path, tree in TREES.items()
        if room_of(path) == room
        for function, is_method in public_functions(tree)
        for parameter in parameters_of(function, is_method=is_method)
        if parameter.annotation is None
    ]

    assert wrong == []


# Each with the one file that may, where there is one.
FORBIDDEN_CALLS = {
    "eval": "utils/config_signature.py",
    "exec": None,
    "compile": None,
    "__import__": None,
    "pickle.load": None,
    "pickle.loads": None,
    "pickle.Unpickler": None,
    "marshal.loads": None,
    "shelve.open": None,
    "joblib.load": None,
    "dill.load": None,
    "dill.loads": None,
    "pd.read_pickle": None,
    "pandas.read_pickle": None,
    "yaml.load": None,
    "yaml.unsafe_load": None,
    "os.system": None,
    "os.popen": None,
    "runpy.run_path": None,
    "torch.hub.load": None,
    "torch.hub.load_state_dict_from_url": None,
    "torch.jit.load": None,
    "torch.package.PackageImporter": None,
    "torch.serialization.add_safe_globals": None,
    "torch.serialization.safe_globals": "tools/old_checkpoint.py",
}
# Each with the files that may; a folder ends in a slash.
FORBIDDEN_IMPORTS = {
    "subprocess": ("logger/run_record.py", "benchmarks/"),
    "socket": (),
    "socketserver": (),
    "ssl": (),
    "http.server": (),
    "http.client.HTTPConnection": (),
    "urllib.request": (),
    "requests": (),
    "httpx": (),
    "aiohttp": (),
    "ftplib": (),
    "xmlrpc": (),
    "torchvision.io": (),
    "torchcodec": ("data_loader/jpeg.py",),
    "dill": (),
    "cloudpickle": (),
    "joblib": (),
    "shelve": (),
    "marshal": (),
    "runpy": (),
    "yaml": (),
}
NEVER_SAFE = ["extractall", "LOAD_TRUNCATED_IMAGES", "all_gather_object", "gather_object", "scatter_object_list"]
NEVER_SAFE += ["broadcast_object_list", "send_object_list", "recv_object_list", "hub", "urlopen", "urlretrieve"]
NEVER_SAFE += ["unpack_archive", "torchvision.io"]


def calls(name, trees):
    """Where something of this name is called, however its module was imported."""
    module, _, bare = name.rpartition(".")
    for path, tree in trees.items():
        taken = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == module
            for alias in node.names
            if alias.name == bare
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and dotted(node.func) in {name, *taken}:
                yield path, node


def imports(name, trees):
    """Where a module, or something below it, is imported in any form."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            if any(f"{one}.".startswith(f"{name}.") for one in names):
                yield path, node


def mentions(name, trees):
    """Where an attribute, a name or an import is called so; "a.b" is b on something that is called a."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute | ast.Name):
                found = f".{dotted(node)}".endswith(f".{name}")
            elif isinstance(node, ast.ImportFrom | ast.Import):
                found = name in {part for alias in node.names for part in alias.name.split(".")}
            else:
                continue
            if found:
                yield path, node


def loads_of_more_than_plain_data(trees):
    """Every torch.load that does not say `weights_only=True`."""
    for path, node in calls("torch.load", trees):
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        value = keywords.get("weights_only")
        if not (isinstance(value, ast.Constant) and value.value is True):
            yield path, node


def switches(trees):
    """Every keyword that makes a harmless call a dangerous one, given as anything but its safe value."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                if keyword.arg in ("allow_pickle", "shell", "weights_only", "trust_repo", "pickle_module"):
                    safe = isinstance(keyword.value, ast.Constant) and keyword.value.value is (
                        keyword.arg == "weights_only"
                    )
                    if not safe:
                        yield path, node


@pytest.mark.parametrize("name", FORBIDDEN_CALLS)
def test_nobody_calls_what_could_run_a_strangers_code(name):
    allowed = FORBIDDEN_CALLS[name]

    wrong = [where(path, node) for path, node in calls(name, TREES) if path.as_posix() != allowed]

    assert wrong == []


@pytest.mark.parametrize("name", FORBIDDEN_IMPORTS)
def test_nobody_imports_what_starts_programs_reaches_the_network_or_unpickles(name):
    allowed = FORBIDDEN_IMPORTS[name]

    wrong = [
        where(path, node) for path, node in imports(name, TREES) if not path.as_posix().startswith((*allowed, "\0"))
    ]

    assert wrong == []


def test_every_file_of_tensors_is_opened_as_plain_data():
    assert list(calls("torch.load", TREES))
    assert [where(path, node) for path, node in loads_of_more_than_plain_data(TREES)] == []


def test_numpy_files_are_not_unpickled_and_shells_are_not_used():
    assert [where(path, node) for path, node in switches(TREES)] == []


@pytest.mark.parametrize("name", NEVER_SAFE)
def test_nobody_mentions_what_is_never_safe(name):
    assert [where(path, node) for path, node in mentions(name, TREES)] == []


def in_one_file(source):
    return {Path("x.py"): ast.parse(source)}


@pytest.mark.parametrize("name", FORBIDDEN_CALLS)
def test_a_forbidden_call_is_seen_in_each_form(name):
    module, _, bare = name.rpartition(".")
    forms = [f"{name}(x)"] + ([f"from {module} import {bare}\n{bare}(x)"] if module else [])
    forms += [f"from {module} import {bare} as other\nother(x)"] if module else []

    assert all(list(calls(name, in_one_file(form))) for form in forms)
    assert not list(calls(name, in_one_file(f"'{name}(x)'  # {name}(x)")))


@pytest.mark.parametrize("name", FORBIDDEN_IMPORTS)
def test_a_forbidden_import_is_seen_in_each_form(name):
    module, _, last = name.rpartition(".")
    forms = [f"import {name}", f"import {name} as x", f"from {name} import x", f"def f():\n    import {name}.below"]
    forms += [f"from {module} import {last}"] if module else []

    assert all(list(imports(name, in_one_file(form))) for form in forms)
    assert not list(imports(name, in_one_file(f"import {name}s\nfrom x import {last}")))


@pytest.mark.parametrize("name", NEVER_SAFE)
def test_what_is_never_safe_is_seen_where_it_is_named(name):
    assert list(mentions(name, in_one_file(f"x.{name}(1)")))
    assert list(mentions(name, in_one_file(f"y = {name}")))


@pytest.mark.parametrize(
    ("find", "source"),
    [
        (loads_of_more_than_plain_data, "torch.load(x)"),
        (loads_of_more_than_plain_data, "torch.load(x, weights_only=False)"),
        (loads_of_more_than_plain_data, "torch.load(x, weights_only=flag)"),
        (loads_of_more_than_plain_data, "from torch import load\nload(x)"),
        (switches, "np.load(x, allow_pickle=True)"),
        (switches, "run(x, shell=True)"),
        (switches, "f(x, weights_only=False)"),
        (switches, "f(x, trust_repo=True)"),
        (switches, "torch.load(x, pickle_module=dill)"),
    ],
)
def test_a_dangerous_way_to_open_a_file_is_seen(find, source):
    assert list(find(in_one_file(source)))


def test_no_package_seeds_globally():
    # Only the entry scripts do, and what builds a run for them; every other package takes a generator or a seed.
    wrong = [
        where(path, node)
        for name in ("torch.manual_seed", "random.seed", "np.random.seed", "numpy.random.seed")
        for path, node in calls(name, TREES)
        if room_of(path) not in ("doors", "parse_config", "wiring") and path.as_posix() != "utils/seed.py"
    ]

    assert wrong == []
