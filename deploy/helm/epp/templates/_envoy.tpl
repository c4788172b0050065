{{/* Envoy's configuration: it asks the picker for each request, and goes where that says. */}}
{{- define "epp.envoyConfig" -}}
{{- $service := eq .Values.router.proxy.mode "service" -}}
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
    per_connection_buffer_limit_bytes: 32768
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
                route: {cluster: picked_worker, timeout: 86400s, idle_timeout: 3600s}
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
              processing_mode:
                request_header_mode: SEND
                response_header_mode: SEND
                request_body_mode: FULL_DUPLEX_STREAMED
                response_body_mode: FULL_DUPLEX_STREAMED
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
    circuit_breakers:
      thresholds: [{max_connections: 40000, max_pending_requests: 40000, max_requests: 40000}]
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
