import unittest

import pytest

from spikeinterface.sorters import HuiduRepSorter
from spikeinterface.sorters.tests.common_tests import SorterCommonTestSuite


@pytest.mark.skipif(not HuiduRepSorter.is_installed(), reason="huidurep not installed")
class HuiduRepCommonTestSuite(SorterCommonTestSuite, unittest.TestCase):
    SorterClass = HuiduRepSorter


if __name__ == "__main__":
    test = HuiduRepCommonTestSuite()
    test.setUp()
    test.test_with_run()
