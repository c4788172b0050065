{{/* How the workers' metrics are read, as two plugins on a line each. */}}
{{- define "epp.metricsPlugins" -}}
{{- $source := .Values.router.epp.metricsDataSource -}}
{type: metrics-data-source, parameters: {scheme: {{ $source.scheme }}, path: {{ $source.path | quote }}, insecureSkipVerify: {{ $source.insecureSkipVerify }}}}
{type: core-metrics-extractor, parameters: {defaultEngine: {{ .Values.router.modelServers.type }}}}
{{- end }}

{{/* A configuration of the user's, word for word. Where the values say how metrics are read, and
   that is not what epp does by itself, they are put in; the text stays text, since reading and
   writing it anew would turn 4000000 into 4e+06. */}}
{{- define "epp.customConfig" -}}
{{- $router := .root.Values.router -}}
{{- $usual := dict "scheme" "http" "path" "/metrics" "insecureSkipVerify" true -}}
{{- $text := .text | trimSuffix "\n" -}}
{{- $says := false -}}
{{- range (fromYaml .text).plugins -}}
{{- if has .type (list "metrics-data-source" "core-metrics-extractor") -}}
{{- $says = true -}}
{{- end -}}
{{- end -}}
{{- if and (eq (toJson $usual) (toJson $router.epp.metricsDataSource)) (eq $router.modelServers.type "vllm") -}}
{{- $text -}}
{{- else if $says -}}
{{- fail (printf "\n- router.epp.metricsDataSource or router.modelServers.type: %s has a metrics-data-source or core-metrics-extractor of its own; say it in one place" .file) -}}
{{- else -}}
{{- $place := "(?m)^plugins:[ \\t]*(?:#.*)?\\n((?:[ \\t]*#.*\\n)*)([ \\t]*)- " -}}
{{- if not (regexMatch $place $text) -}}
{{- fail (printf "\n- router.epp.metricsDataSource or router.modelServers.type: %s has no list of plugins in block style to put them into; add metrics-data-source and core-metrics-extractor to it yourself" .file) -}}
{{- end -}}
{{- $plugins := splitList "\n" (include "epp.metricsPlugins" .root) -}}
{{- regexReplaceAll $place $text (printf "plugins:\n${1}${2}- %s\n${2}- %s\n${2}- " (first $plugins) (last $plugins)) -}}
{{- end -}}
{{- end }}

{{/* What epp runs with where the user gives no configuration. */}}
{{- define "epp.generatedConfig" -}}
{{- $plugins := splitList "\n" (include "epp.metricsPlugins" .) -}}
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
{{- if .Values.router.latencyPredictor.enabled }}
- type: approx-prefix-cache-producer
- type: predicted-latency-producer
- type: prefix-cache-affinity-filter
  parameters:
    affinityThreshold: 0.8
- type: latency-scorer
- type: weighted-random-picker
{{- else }}
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
{{- end }}
- {{ first $plugins }}
- {{ last $plugins }}
schedulingProfiles:
- name: default
  plugins:
  {{- if .Values.router.latencyPredictor.enabled }}
  - pluginRef: predicted-latency-producer
  - pluginRef: prefix-cache-affinity-filter
  - pluginRef: latency-scorer
  - pluginRef: weighted-random-picker
  {{- else }}
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: kv-cache-utilization-scorer
    weight: 2
  - pluginRef: prefix-cache-scorer
    weight: 3
  {{- end }}
dataLayer:
  sources:
  - pluginRef: metrics-data-source
    extractors:
    - pluginRef: core-metrics-extractor
{{- with .Values.router.epp.parsers }}
requestHandler:
  parsers:
  {{- range . }}
  - pluginRef: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
