"""pai-collector: Alibaba Cloud PAI monitoring, kept as history in ClickHouse."""

PROGRAM = "pai-collector"
__version__ = "0.1.0"
