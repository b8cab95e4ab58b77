"""The side of the notebook: a gRPC server that calls `predict` on one worker thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from kaggle_evaluation.messages import METHOD, packed
from kaggle_evaluation.rsna_gateway import RSNAGateway, port


class RSNAInferenceServer:
    """`predict` must be a plain function of that name."""

    def __init__(self, predict: Callable[[str], Any]):
        if type(predict).__name__ != "function" or predict.__name__ != "predict":
            raise ValueError(f"expected a function named predict, found {predict!r}")

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            return packed(predict(request.decode()))

        service, method = METHOD.strip("/").split("/")
        handlers = {method: grpc.unary_unary_rpc_method_handler(handle)}
        self.server = grpc.server(ThreadPoolExecutor(max_workers=1))
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])

    def serve(self) -> None:
        """Serves until the process is ended; in the rerun the gateway is a process of its own."""
        if self.server.add_insecure_port(f"localhost:{port()}") == 0:
            raise RuntimeError(f"port {port()} is taken")
        self.server.start()
        if os.environ.get("KAGGLE_IS_COMPETITION_RERUN"):
            self.server.wait_for_termination()

    def run_local_gateway(self, data_paths: tuple[str] | None = None) -> None:
        """Server and gateway in one process."""
        self.serve()
        try:
            RSNAGateway(data_paths).run()
        finally:
            self.server.stop(None)
