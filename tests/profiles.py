"""Profiles for tests: one that exists, with other capability bits."""

from __future__ import annotations

import dataclasses

from emulator.profile import Profile
from pagetables.capabilities import Capabilities


def changed(profile: Profile, cap: dict | None = None, ecap: dict | None = None, haw: int | None = None, **more):
    """The profile with other capability bits, another address width, and other fields."""
    was = profile.capabilities
    now = Capabilities(was.cap.replace(**(cap or {})), was.ecap.replace(**(ecap or {})), haw or was.haw)
    return dataclasses.replace(profile, capabilities=now, **more)
