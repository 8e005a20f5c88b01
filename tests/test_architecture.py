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
    "yaml.load": None,
    "os.system": None,
    "os.popen": None,
    "torch.hub.load": None,
    "torch.hub.load_state_dict_from_url": None,
    "torch.jit.load": None,
    "torch.package.PackageImporter": None,
    "torch.serialization.add_safe_globals": None,
}


def calls(name):
    """Where something of this name is called, however its module was imported."""
    module, _, bare = name.rpartition(".")
    for path, tree in TREES.items():
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


@pytest.mark.parametrize("name", FORBIDDEN_CALLS)
def test_nobody_calls_what_could_run_a_strangers_code(name):
    allowed = FORBIDDEN_CALLS[name]

    wrong = [where(path, node) for path, node in calls(name) if path.as_posix() != allowed]

    assert wrong == []


def test_every_file_of_tensors_is_opened_as_plain_data():
    found = list(calls("torch.load"))

    assert found
    for path, node in found:
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        assert isinstance(keywords.get("weights_only"), ast.Constant), where(path, node)
        assert keywords["weights_only"].value is True, where(path, node)


def test_numpy_files_are_not_unpickled_and_shells_are_not_used():
    wrong = [
        f"{where(path, node)} {keyword.arg}"
        for path, node in everywhere(ast.Call)
        for keyword in node.keywords
        if keyword.arg in ("allow_pickle", "shell", "weights_only", "trust_repo")
        if not (isinstance(keyword.value, ast.Constant) and keyword.value.value is (keyword.arg == "weights_only"))
    ]

    assert wrong == []


@pytest.mark.parametrize(
    "name",
    ["extractall", "LOAD_TRUNCATED_IMAGES", "all_gather_object", "gather_object", "broadcast_object_list", "hub"],
)
def test_nobody_mentions_what_is_never_safe(name):
    wrong = [where(path, node) for path, node in everywhere(ast.Attribute) if node.attr == name]
    wrong += [where(path, node) for path, node in everywhere(ast.Name) if node.id == name]
    wrong += [
        where(path, node)
        for path, node in everywhere(ast.ImportFrom | ast.Import)
        if name in {part for alias in node.names for part in alias.name.split(".")}
    ]

    assert wrong == []


def test_no_package_seeds_globally():
    # Only the entry scripts do, through seed_everything; a package takes a generator or a seed.
    wrong = [
        where(path, node)
        for name in ("torch.manual_seed", "random.seed", "np.random.seed", "numpy.random.seed")
        for path, node in calls(name)
        if room_of(path) not in ("doors", "parse_config") and path.as_posix() != "utils/seed.py"
    ]

    assert wrong == []
