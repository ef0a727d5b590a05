"""Answers questions about a release of vLLM from its source text, without importing it or PyTorch."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from .seams import Answer, Question

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """The Python files of one release."""

    def __init__(self, root: Path) -> None:
        """`root` holds the folder `vllm`."""
        self._root = root

    def answer(self, question: Question) -> Answer:
        """The answer, None where there is no such module, class or function."""
        tree = self._tree(question.module)
        if tree is None:
            return None
        match question.kind:
            case "text":
                return question.callee in self._text(question.module)
            case "global":
                return _origin(tree, question.module, question.member)
            case "parameters":
                function = _function(tree, question.member)
                return None if function is None else _parameters(function)
            case "fields":
                return _fields(tree, question.member)
            case "attribute":
                return self._has_attribute(question.module, question.member)
            case "sets":
                function = _function(tree, question.member)
                return None if function is None else question.callee in _set_on_self(function)
            case "calls":
                function = _function(tree, question.member)
                return None if function is None else list(_calls(function, question.callee))
        raise ValueError(f"nobody can answer {question.kind}")

    def _path(self, module: str) -> Path | None:
        base = self._root.joinpath(*module.split("."))
        return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)

    def _text(self, module: str) -> str:
        path = self._path(module)
        return "" if path is None else path.read_text()

    @functools.cache  # noqa: B019 - a source lives as long as the answers are taken
    def _tree(self, module: str) -> ast.Module | None:
        return ast.parse(self._text(module)) if self._path(module) else None

    def _has_attribute(self, module: str, member: str) -> bool | None:
        """Whether a class, or one it inherits from, sets an attribute on self."""
        tree = self._tree(module)
        name, _, attribute = member.partition(".")
        class_ = None if tree is None else _class(tree, name)
        if tree is None or class_ is None:
            return None
        if attribute in _set_on_self(class_) or attribute in _annotated(class_):
            return True
        for base in class_.bases:
            found = _origin(tree, module, ast.unparse(base))
            if isinstance(found, str):
                place = f"{module}.{ast.unparse(base)}" if found == "here" else found
                owner, _, parent = place.rpartition(".")
                if self._has_attribute(owner, f"{parent}.{attribute}"):
                    return True
        return False


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements of a module, also those under an `if` or a `try`."""
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        one = todo.pop(0)
        yield one
        for block in ("body", "orelse", "finalbody"):
            if isinstance(one, ast.If | ast.Try):
                todo.extend(getattr(one, block, []))


def _class(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next((s for s in _statements(tree) if isinstance(s, ast.ClassDef) and s.name == name), None)


def _function(tree: ast.Module, member: str) -> Function | None:
    owner, _, name = member.rpartition(".")
    body: Iterator[ast.stmt] | list[ast.stmt] = _statements(tree)
    if owner:
        class_ = _class(tree, owner)
        body = [] if class_ is None else class_.body
    # of overloads the last is the function
    return next((s for s in reversed(list(body)) if isinstance(s, Function) and s.name == name), None)


def _parameters(function: Function) -> list[str]:
    arguments = function.args
    names = [a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]
    return names[1:] if names[:1] == ["self"] else names


def _annotated(class_: ast.ClassDef) -> list[str]:
    assigned = (s.target for s in class_.body if isinstance(s, ast.AnnAssign))
    return [target.id for target in assigned if isinstance(target, ast.Name)]


def _fields(tree: ast.Module, name: str) -> list[str] | None:
    """Annotated names of a class, those of its bases in the same module first."""
    class_ = _class(tree, name)
    if class_ is None:
        return None
    inherited = (_fields(tree, ast.unparse(base)) or [] for base in class_.bases)
    return [*(field for fields in inherited for field in fields), *_annotated(class_)]


def _set_on_self(part: Function | ast.ClassDef) -> set[str]:
    """What a class or a function assigns to self, and the properties of a class."""
    found = set()
    for node in ast.walk(part):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                found.add(node.attr)
        elif isinstance(node, ast.FunctionDef) and any(
            isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list
        ):
            found.add(node.name)
    return found


def _origin(tree: ast.Module, module: str, name: str) -> str | None:
    """Where a module's global comes from: "here", or the dotted name it is imported by."""
    for one in _statements(tree):
        if isinstance(one, ast.ImportFrom):
            for alias in one.names:
                if (alias.asname or alias.name) == name:
                    return f"{_absolute(one, module)}.{alias.name}"
        elif (
            isinstance(one, Function | ast.ClassDef)
            and one.name == name
            or isinstance(one, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == name for t in one.targets)
        ):
            return "here"
    return None


def _absolute(one: ast.ImportFrom, module: str) -> str:
    if not one.level:
        return one.module or ""
    parent = module.split(".")[: -one.level]
    return ".".join([*parent, *([one.module] if one.module else [])])


def _calls(function: Function, callee: str) -> Iterator[list[str]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == callee:
            yield ["*"] * len(node.args) + [keyword.arg or "**" for keyword in node.keywords]
