"""Devices: operating points, power, batteries, the system's files, the governor.  Knows nothing of networks.

Methods, equations and the source of every number: docs/retrim/device.md.
"""

from __future__ import annotations

from retrim.device.battery import Battery
from retrim.device.cluster import Cluster
from retrim.device.device import Device
from retrim.device.discharge import Discharge, Policy, Workload, discharge
from retrim.device.governor import Governor, Signals, decide
from retrim.device.levels import Level, LevelTable, just_meeting, read_levels
from retrim.device.point import OperatingPoint
from retrim.device.power import PowerModel
from retrim.device.simulation import simulate
from retrim.device.store import find, names, read

__all__ = [
    "Battery",
    "Cluster",
    "Device",
    "Discharge",
    "Governor",
    "Level",
    "LevelTable",
    "OperatingPoint",
    "Policy",
    "PowerModel",
    "Signals",
    "Workload",
    "decide",
    "discharge",
    "find",
    "just_meeting",
    "names",
    "read",
    "read_levels",
    "simulate",
]
