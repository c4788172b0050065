{{/* What would render, and then not be what was asked for. Every value is named, with the reason. */}}
{{- define "epp.refusals" -}}
{{- $router := .Values.router -}}
{{- $epp := $router.epp -}}
{{- $proxy := $router.proxy -}}
{{- $refused := list -}}
{{- if and (include "epp.leaderElection" .) $proxy.enabled (eq $proxy.mode "sidecar") -}}
{{- $refused = append $refused "router.proxy.mode sidecar cannot go with leader election: only the leader's Envoy would be ready; use mode service, or epp.leaderElection: false" -}}
{{- end -}}
{{- if and $proxy.enabled (eq (get $epp.flags "secure-serving" | toString) "false") -}}
{{- $refused = append $refused "router.proxy speaks TLS to the picker: it cannot go with router.epp.flags.secure-serving false" -}}
{{- end -}}
{{- if and $epp.pluginsCustomConfig (not (hasKey $epp.pluginsCustomConfig $epp.pluginsConfigFile)) -}}
{{- $refused = append $refused (printf "router.epp.pluginsConfigFile is %s, which router.epp.pluginsCustomConfig does not have" $epp.pluginsConfigFile) -}}
{{- end -}}
{{- if and $epp.parsers $epp.pluginsCustomConfig -}}
{{- $refused = append $refused "router.epp.parsers: your configuration (router.epp.pluginsCustomConfig) says which parsers there are" -}}
{{- end -}}
{{- $flag := get $epp.flags "ha-enable-leader-election" | toString -}}
{{- if and (hasKey $epp.flags "ha-enable-leader-election") (not (kindIs "invalid" $epp.leaderElection)) (ne $flag (toString $epp.leaderElection)) -}}
{{- $refused = append $refused "router.epp.leaderElection and router.epp.flags.ha-enable-leader-election say different things" -}}
{{- end -}}
{{- $ports := splitList "," (include "epp.targetPorts" .) -}}
{{- if ne (len $ports) (len (uniq $ports)) -}}
{{- $refused = append $refused "router.modelServers.targetPorts has a port twice" -}}
{{- end -}}
{{- if eq $proxy.proxyType "agentgateway" -}}
{{- $refused = append $refused "router.proxy.proxyType agentgateway: this chart brings Envoy only; run agentgateway yourself and name the picker's Service as its endpoint picker" -}}
{{- end -}}
{{- range list "presets" "configMap" -}}
{{- if hasKey $proxy . -}}
{{- $refused = append $refused (printf "router.proxy.%s: the chart has an Envoy configuration of its own, which values cannot replace; leave it out, or run your Envoy outside of this chart" .) -}}
{{- end -}}
{{- end -}}
{{- range list "name" "ports" "readinessProbe" "startupProbe" "livenessProbe" "securityContext" -}}
{{- if hasKey $proxy . -}}
{{- $refused = append $refused (printf "router.proxy.%s: fixed in this chart" .) -}}
{{- end -}}
{{- end -}}
{{- if and $proxy.args (not (has "/etc/envoy/envoy.yaml" $proxy.args)) -}}
{{- $refused = append $refused "router.proxy.args do not name /etc/envoy/envoy.yaml: Envoy would start without its configuration" -}}
{{- end -}}
{{- if eq ($router.monitoring.provider.name | default "") "gmp" -}}
{{- $refused = append $refused "router.monitoring.provider.name gmp: only prometheusoperator's ServiceMonitor is rendered; write a PodMonitoring for the port `metrics` yourself" -}}
{{- end -}}
{{- if $router.tokenizer.enabled -}}
{{- $refused = append $refused "router.tokenizer.enabled: this chart has no tokenizer sidecar; run `vllm launch render` as a Service and name it in your configuration (token-producer, vllm.url)" -}}
{{- end -}}
{{- if $router.latencyPredictor.enabled -}}
{{- range list "trainingServer" "predictionServers" "eppEnv" -}}
{{- if hasKey $router.latencyPredictor . -}}
{{- $refused = append $refused (printf "router.latencyPredictor.%s: epp learns latencies itself and has no such sidecar; leave it out" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if dig "gke" "preferredBackends" "enabled" false .Values.provider -}}
{{- $refused = append $refused "provider.gke.preferredBackends: pickers are not pinned to tiers by this chart" -}}
{{- end -}}
{{- with $refused -}}
{{- fail (printf "\n- %s" (join "\n- " .)) -}}
{{- end -}}
{{- end }}
