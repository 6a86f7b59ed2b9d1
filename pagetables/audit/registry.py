"""Every rule there is."""

from __future__ import annotations

from collections.abc import Iterable

from pagetables.audit import domain_ids, exposure, firmware, interrupts, isolation, protection, tables
from pagetables.audit.rule import Rule
from pagetables.errors import InputError, near

__all__ = ["RULES", "choose_rules"]

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            value
            for family in (isolation, domain_ids, exposure, tables, interrupts, protection, firmware)
            for value in vars(family).values()
            if isinstance(value, Rule)
        ),
        key=lambda rule: rule.id,
    )
)


def choose_rules(names: Iterable[str]) -> tuple[Rule, ...]:
    """The rules called `names` (ids or names, in any case), all of them for none; InputError for an unknown one."""
    known = {name.lower(): rule for rule in RULES for name in (rule.id, rule.name)}
    wanted = {name.strip().lower() for name in names if name.strip()}
    for name in sorted(wanted - set(known)):
        raise InputError(f"no rule is called {name!r}; {near(name, known)}")
    return tuple(rule for rule in RULES if {rule.id.lower(), rule.name} & wanted) if wanted else RULES
