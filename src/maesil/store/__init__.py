"""The prepared store: Zarr v3 on disk, OME-NGFF metadata, written by `prepare`, read by `ScanStore`."""
