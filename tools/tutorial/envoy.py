"""A real Envoy, programmed for InferencePools as Envoy AI Gateway 0.3 programs it.

For each pool a filter that asks its picker, switched off on other routes, with the picker's Service
as a cluster and the workers as whatever address the picker's header says. What the gateway's own
filter does first, finding the model in the body, is a few lines of Lua here. `failure_mode_allow`
is not set, so false, whatever the pool says.
"""

import json
import urllib.request

from step import eventually, must

PORT, ADMIN = 80, 19000
TYPE = "type.googleapis.com/envoy.extensions."
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

MODEL_OF_BODY = """
function envoy_on_request(handle)
  local body = handle:body()
  local text = body and body:getBytes(0, body:length()) or ""
  local model = text:match('"model"%s*:%s*"([^"]*)"')
  if model then
    handle:headers():replace("x-ai-eg-model", model)
    handle:clearRouteCache()
  end
end
"""


class Pool:
    """Models, and the picker of the pool that serves them."""

    def __init__(self, models, name, service, ip, port):
        self.models, self.name, self.port = models, name, port
        self.service, self.ip = service, ip
        self.filter = f"envoy.filters.http.ext_proc/endpointpicker/{name}_ext_proc"


def configuration(pools):
    return {
        "admin": {"address": address("127.0.0.1", ADMIN)},
        "static_resources": {
            "listeners": [listener(pools)],
            "clusters": [cluster for pool in pools for cluster in (picker(pool), workers(pool))],
        },
    }


def address(ip, port):
    return {"socket_address": {"address": ip, "port_value": port}}


def listener(pools):
    lua = {"name": "envoy.filters.http.lua", "typed_config": {
        "@type": TYPE + "filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": MODEL_OF_BODY}}}
    router = {"name": "envoy.filters.http.router", "typed_config": {
        "@type": TYPE + "filters.http.router.v3.Router", "suppress_envoy_headers": True}}
    manager = {
        "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": f"http-{PORT}",
        "use_remote_address": True, "normalize_path": True, "merge_slashes": True,
        "server_header_transformation": "PASS_THROUGH",
        "http_filters": [lua, *map(ask, pools), router],
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [*(route(model, pool, pools) for pool in pools for model in pool.models),
                       nowhere(pools)]}]},
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager",
                          "typed_config": manager}]}
    return {"name": "kserve-test/ai-gateway/http", "address": address("0.0.0.0", PORT),
            "per_connection_buffer_limit_bytes": 32768, "default_filter_chain": chain}


def ask(pool):
    return {"name": pool.filter, "typed_config": {
        "@type": TYPE + "filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": {"envoy_grpc": {
            "cluster_name": pool.service, "authority": f"{pool.service}:{pool.port}"}},
        "processing_mode": {
            "request_header_mode": "SEND", "response_header_mode": "SEND",
            "request_body_mode": "FULL_DUPLEX_STREAMED",
            "response_body_mode": "FULL_DUPLEX_STREAMED",
            "request_trailer_mode": "SEND", "response_trailer_mode": "SEND"},
        "message_timeout": "5s"}}


def without(pools):
    """Switches the pickers of these pools off."""
    return {pool.filter: {"@type": TYPE + "filters.http.ext_proc.v3.ExtProcPerRoute",
                          "disabled": True} for pool in pools}


def route(model, pool, pools):
    header = {"name": "x-ai-eg-model", "string_match": {"exact": model}}
    return {"match": {"prefix": "/", "headers": [header]},
            "route": {"cluster": pool.name, "timeout": "60s", "idle_timeout": "3600s"},
            "typed_per_filter_config": without([p for p in pools if p is not pool])}


def nowhere(pools):
    text = "No matching route found. Is the model of the request configured in the Gateway?"
    return {"match": {"prefix": "/"}, "typed_per_filter_config": without(pools),
            "direct_response": {"status": 404, "body": {"inline_string": text}}}


def picker(pool):
    return {
        "name": pool.service, "type": "STRICT_DNS", "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": TYPE + "transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {"validation_context": {}}}},
        "load_assignment": {"cluster_name": pool.service, "endpoints": [{"lb_endpoints": [{
            "endpoint": {"address": address(pool.ip, pool.port)}}]}]},
        "typed_extension_protocol_options": {HTTP_OPTIONS: {
            "@type": "type.googleapis.com/" + HTTP_OPTIONS,
            "explicit_http_config": {"http2_protocol_options": {}}}},
    }


def workers(pool):
    return {
        "name": pool.name, "type": "ORIGINAL_DST", "connect_timeout": "10s",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"use_http_header": True,
                                   "http_header_name": "x-gateway-destination-endpoint"},
    }


def start(cluster, pools):
    """Starts Envoy on the node; returns the process."""
    file = cluster.here / "envoy.json"
    file.write_text(json.dumps(configuration(pools)))
    process = cluster.process("envoy", [
        cluster.args.envoy, "-c", file, "--concurrency", "1", "--disable-hot-restart",
        "--log-level", "warning"])
    eventually("Envoy is ready", lambda: is_ready(process))
    return process


def is_ready(process):
    must(process.poll() is None, f"Envoy ended with {process.returncode}")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/ready", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False
