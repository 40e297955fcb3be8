from ..basesorter import BaseSorter


class HuiduRepSorter(BaseSorter):
    """Run the sorting pipeline of the huidurep package, which holds its own description of parameters."""

    sorter_name = "huidurep"
    requires_locations = False
    gpu_capability = "nvidia-optional"
    handle_multi_segment = True
    compatible_with_parallel = {"loky": True, "multiprocessing": True, "threading": True}

    _default_params = {}
    _params_description = {}

    sorter_description = """HuiduRep embeds every spike with a pretrained transformer encoder and clusters the
    embeddings with a Gaussian mixture whose number of units is found; template matching resolves overlaps.
    Checkpoints for tetrodes, linear probes, Neuropixels and dense arrays come with the package: nothing is
    downloaded, and no GPU is needed. Segments are sorted together, channel groups one by one.
    See https://arxiv.org/abs/2507.17224
    """

    installation_mesg = """\nTo use HuiduRep run:\n
       >>> pip install huidurep
    """

    @classmethod
    def _dynamic_params(cls):
        from huidurep import HuiduRepSorter as PackagedSorter

        return dict(PackagedSorter._default_params), dict(PackagedSorter._params_description)

    @classmethod
    def is_installed(cls):
        try:
            import huidurep

            return hasattr(huidurep, "HuiduRepSorter")
        except ImportError:
            return False

    @staticmethod
    def get_sorter_version():
        import huidurep

        return huidurep.__version__

    @classmethod
    def _check_params(cls, recording, output_folder, params):
        from huidurep import HuiduRepSorter as PackagedSorter

        return PackagedSorter._check_params(recording, output_folder, params)

    @classmethod
    def _check_apply_filter_in_params(cls, params):
        return True

    @classmethod
    def _setup_recording(cls, recording, sorter_output_folder, params, verbose):
        # the recording is not copied
        pass

    @classmethod
    def _run_from_folder(cls, sorter_output_folder, params, verbose):
        from huidurep import HuiduRepSorter as PackagedSorter

        PackagedSorter._run_from_folder(sorter_output_folder, params, verbose)

    @classmethod
    def _get_result_from_folder(cls, sorter_output_folder):
        from huidurep import HuiduRepSorter as PackagedSorter
        from huidurep.integrations.sorter_jobs import reach_workers

        reach_workers()  # run_sorter_by_property then names overlapping units by their new ids
        return PackagedSorter._get_result_from_folder(sorter_output_folder)
