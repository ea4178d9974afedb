"""Channel options, each checked against the fault that it is for (gRPC core: channel_arg_names.h)."""

from __future__ import annotations

MESSAGE_BYTES = 16 * 1024 * 1024

_BOTH = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", 32_768),
    ("grpc.absolute_max_metadata_size", 65_536),
)

SERVER = (
    *_BOTH,
    # Without this a second server on the port starts in silence and takes half of the calls.
    ("grpc.so_reuseport", 0),
    # Our clients ping every 10 s during a call; a stricter server would cut them off ("too_many_pings").
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

CLIENT = (
    *_BOTH,
    # A proxy in the environment would take loopback calls.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In gRPC core this is the least time that a connection attempt is given, not a pause: 100 ms fail under load.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A peer that hangs is noticed by http2.ping_timeout_ms; keepalive_timeout_ms alone does nothing in grpcio 1.85.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.lb_policy_name", "round_robin"),
    # Retries are ours: gRPC's own would repeat a call that was killed midway, whatever it does.
    ("grpc.enable_retries", 0),
)
