"""Property-based tests by hypothesis: 200 cases, always the same, in `make test`; 2,000 other ones in `make fuzz`."""

import os

from fuzz_cases import FACTOR_VARIABLE
from hypothesis import HealthCheck, settings

IS_FUZZ = FACTOR_VARIABLE in os.environ

# no database: a case that failed becomes an @example in its test, and is thus seen by everybody
settings.register_profile(
    "huidurep",
    deadline=None,
    derandomize=not IS_FUZZ,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
settings.load_profile("huidurep")
