"""A machine like QEMU's q35 and its devices. Where to find what:

machine         the machine; board, q35, platform: what is on it, and what its firmware says of it
machine_file    a machine in YAML (yaml_section, device_scopes read it); firmware, dmar: what firmware leaves
scopes          which unit remaps whose requests
device          what a device is; properties, options, c_numbers: how it is configured; registry: types by name
objects         devices by path, as QOM has them
memory_region   what is at an address; address_space: what that looks like from outside; memory_tree: in words
pci             functions, buses, bridges, configuration space, MSI and MSI-X
dma             requests of devices, on their way through a unit; interrupt_lines, local_apic: interrupts
process         work of a device that takes time
ats_port        translations and pages that a device asks for itself; ats_access: memory reached through them

intel_iommu     the unit as a device; intel_iommu_options: its options
edu, testdev    QEMU's test devices
dma_engine      a device with ATS, PASIDs and page requests; dma_engine_words: its registers and descriptors
attacker        a hostile device; attack_report: what it reached

fronts          qtest, QMP, the monitor, and the program that stands in for QEMU
"""
