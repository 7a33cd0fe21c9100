KERNELS: tuple[str, ...] = ()
ISA_LEVELS: tuple[int, ...] = ()
FEATURES: dict[str, str] = {}
HELPERS: dict[str, tuple[int, ...]] = {}
