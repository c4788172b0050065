{{/* Envoy's configuration: it asks the picker for each request, and goes where that says. */}}
{{- define "epp.envoyConfig" -}}
{{- $service := eq .Values.router.proxy.mode "service" -}}
{{- $bodies := .Values.router.proxy.responseBody -}}
{{- $auto := eq $bodies "auto" -}}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 19000}}
static_resources:
  listeners:
  # For the kubelet and for Prometheus: readiness, and Envoy's own statistics.
  - name: ready
    address: {socket_address: {address: 0.0.0.0, port_value: 19001}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ready
          route_config:
            virtual_hosts:
            - name: admin
              domains: ["*"]
              routes:
              - match: {path: /stats/prometheus}
                route: {cluster: admin}
          http_filters:
          - name: envoy.filters.http.health_check
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck
              pass_through_mode: false
              headers:
              - name: ":path"
                string_match: {exact: /ready}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  - name: gateway
    address: {socket_address: {address: 0.0.0.0, port_value: 8081}}
    {{- if $auto }}
    # A request's body is held until it is whole; a larger one is answered with 413.
    per_connection_buffer_limit_bytes: 33554432
    {{- else }}
    per_connection_buffer_limit_bytes: 32768
    {{- end }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: gateway
          codec_type: AUTO
          use_remote_address: true
          normalize_path: true
          merge_slashes: true
          http2_protocol_options:
            max_concurrent_streams: 100
            initial_stream_window_size: 65536
            initial_connection_window_size: 1048576
          # Answers stream for minutes, and may wait in a worker's queue before they begin.
          stream_idle_timeout: 3600s
          route_config:
            name: workers
            virtual_hosts:
            - name: workers
              domains: ["*"]
              routes:
              - match: {prefix: "/"}
                # What a retry saves here is a connection: one that the worker closed just as the
                # request went out on it, or refused while it restarts. It goes to the same worker,
                # since the header says so and epp is not asked again; so no retry on a status: a
                # worker that answered 503 would only be asked twice as often. Only until response
                # headers are there; an answer that began is never repeated.
                route:
                  cluster: picked_worker
                  timeout: 86400s
                  idle_timeout: 3600s
                  retry_policy:
                    retry_on: connect-failure,refused-stream,reset
                    num_retries: 2
                    retry_back_off: {base_interval: 0.025s, max_interval: 0.25s}
                # A body larger than this is sent once and not kept for a retry.
                per_request_buffer_limit_bytes: 1048576
          http_filters:
          - name: envoy.filters.http.ext_proc
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              stat_prefix: epp
              failure_mode_allow: {{ .Values.router.proxy.failOpen }}
              grpc_service:
                envoy_grpc: {cluster_name: epp, authority: epp}
              # A request may wait in the picker's queue.
              message_timeout: 1000s
              {{- if $auto }}
              # Heeded where no body is in full duplex: Envoy may have sent some of it already.
              allow_mode_override: true
              {{- end }}
              processing_mode:
                request_header_mode: SEND
                response_header_mode: SEND
                {{- if $auto }}
                request_body_mode: BUFFERED
                response_body_mode: STREAMED
                {{- else }}
                request_body_mode: FULL_DUPLEX_STREAMED
                response_body_mode: {{ eq $bodies "none" | ternary "NONE" "FULL_DUPLEX_STREAMED" }}
                {{- end }}
                request_trailer_mode: SEND
                response_trailer_mode: SEND
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
  clusters:
  - name: admin
    type: STATIC
    connect_timeout: 0.25s
    load_assignment:
      cluster_name: admin
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 19000}}}
  # The worker is whatever address stands in the header that the picker sets.
  - name: picked_worker
    type: ORIGINAL_DST
    connect_timeout: 10s
    lb_policy: CLUSTER_PROVIDED
    original_dst_lb_config:
      use_http_header: true
      http_header_name: x-gateway-destination-endpoint
    # vLLM and SGLang serve through uvicorn, which closes a connection after 5 s without a request
    # (vLLM: VLLM_HTTP_TIMEOUT_KEEP_ALIVE). Envoy lets go first, so that no request meets a
    # connection that is being closed. Workers with a shorter keep-alive need a shorter one here.
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options: {idle_timeout: 4s}
        explicit_http_config:
          {{- if eq .Values.router.modelServers.protocol "grpc" }}
          http2_protocol_options: {}
          {{- else }}
          http_protocol_options: {}
          {{- end }}
    circuit_breakers:
      thresholds:
      - {max_connections: 40000, max_pending_requests: 40000, max_requests: 40000, max_retries: 1024}
  - name: epp
    {{- if $service }}
    type: STRICT_DNS
    dns_lookup_family: V4_PREFERRED
    {{- else }}
    type: STATIC
    {{- end }}
    connect_timeout: 10s
    lb_policy: LEAST_REQUEST
    circuit_breakers:
      thresholds:
      - {max_connections: 40000, max_pending_requests: 40000, max_requests: 40000, max_retries: 1024}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options:
            initial_stream_window_size: 65536
            initial_connection_window_size: 1048576
    # The picker makes its own certificate unless it is given one; it is not checked.
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          alpn_protocols: [h2]
          validation_context: {}
    health_checks:
    - timeout: 2s
      interval: 10s
      unhealthy_threshold: 3
      healthy_threshold: 2
      reuse_connection: true
      grpc_health_check: {service_name: envoy.service.ext_proc.v3.ExternalProcessor}
    load_assignment:
      cluster_name: epp
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: {{ $service | ternary (include "epp.name" .) "127.0.0.1" }}, port_value: {{ .Values.router.epp.extProcPort }}}}}
{{- end }}
