"""Where bytes come from: dumps of physical memory, and the registers that go with them; and how they are saved."""
