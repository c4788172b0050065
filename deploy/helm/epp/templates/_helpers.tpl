{{- define "epp.name" -}}
{{ printf "%s-epp" (.Release.Name | trunc 40 | trimSuffix "-") }}
{{- end }}

{{- define "epp.selectorLabels" -}}
app.kubernetes.io/name: epp
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: endpoint-picker
{{- end }}

{{- define "epp.labels" -}}
{{ include "epp.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "epp.proxyName" -}}
{{ printf "%s-proxy" (.Release.Name | trunc 40 | trimSuffix "-") }}
{{- end }}

{{- define "epp.proxySelectorLabels" -}}
app.kubernetes.io/name: epp-proxy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "epp.image" -}}
{{- $image := .Values.router.epp.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* "true" or nothing. The flag, where it is given, has the last word, as it has with epp. */}}
{{- define "epp.leaderElection" -}}
{{- $epp := .Values.router.epp -}}
{{- $flag := get $epp.flags "ha-enable-leader-election" | toString -}}
{{- if hasKey $epp.flags "ha-enable-leader-election" -}}
{{- if ne $flag "false" }}true{{ end -}}
{{- else if kindIs "invalid" $epp.leaderElection -}}
{{- if gt (int $epp.replicas) 1 }}true{{ end -}}
{{- else if $epp.leaderElection }}true{{ end -}}
{{- end }}

{{/* The target ports, whichever way they are written, with commas between. */}}
{{- define "epp.targetPorts" -}}
{{- $ports := list -}}
{{- range .Values.router.modelServers.targetPorts -}}
{{- $ports = append $ports (int (kindIs "map" . | ternary (get (kindIs "map" . | ternary . dict) "number") .)) -}}
{{- end -}}
{{- join "," $ports -}}
{{- end }}

{{/* Environment variables of the picker, from a list or a map. */}}
{{- define "epp.env" -}}
{{- $env := .Values.router.epp.env -}}
{{- if kindIs "map" $env -}}
{{- range $name, $value := $env }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end -}}
{{- else -}}
{{- with $env }}{{ toYaml . }}{{ end -}}
{{- end -}}
{{- end }}

{{/* Where the picker sends its spans. */}}
{{- define "epp.tracing" -}}
{{- with .Values.router.tracing }}
{{- if .enabled }}
- name: OTEL_TRACES_EXPORTER
  value: otlp
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .otelExporterEndpoint | quote }}
- name: OTEL_SERVICE_NAME
  value: llm-d-router/epp
- name: OTEL_TRACES_SAMPLER
  value: {{ .sampling.sampler | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .sampling.samplerArg | toString | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Extra ports that lead to Envoy in a Deployment of its own ("proxy"), or all others ("picker"),
   as a list in JSON under "ports". A port that the picker's Service has anyway is left out. */}}
{{- define "epp.extraPorts" -}}
{{- $router := .root.Values.router -}}
{{- $apart := and $router.proxy.enabled (eq $router.proxy.mode "service") -}}
{{- $ports := list -}}
{{- range $router.extraServicePorts -}}
{{- $target := .targetPort | default .port | toString -}}
{{- $toEnvoy := and $apart (or (eq $target "8081") (eq $target "http")) -}}
{{- $tcp := eq (.protocol | default "TCP") "TCP" -}}
{{- $known := dict "9090" (list "9090" "metrics") (toString $router.epp.extProcPort) (list (toString $router.epp.extProcPort) "grpc") -}}
{{- $same := get $known (toString .port) -}}
{{- if and $tcp $same (not (has $target $same)) -}}
{{- fail (printf "router.extraServicePorts: port %v is taken by the picker and cannot lead to %s" .port $target) -}}
{{- end -}}
{{- if and (eq $.which "proxy") $toEnvoy (ne (toString .port) "8081") -}}
{{- $ports = append $ports . -}}
{{- else if and (eq $.which "picker") (not $toEnvoy) (not (and $tcp $same)) -}}
{{- $ports = append $ports . -}}
{{- end -}}
{{- end -}}
{{- dict "ports" $ports | toJson -}}
{{- end }}

{{- define "epp.selector" -}}
{{- $pairs := list -}}
{{- range $key, $value := .Values.router.modelServers.matchLabels -}}
{{- $pairs = append $pairs (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end }}

{{- define "epp.metricsSecret" -}}
{{- .Values.router.monitoring.prometheus.auth.secretName | default (printf "%s-metrics-reader" (include "epp.name" .)) -}}
{{- end }}

{{- define "epp.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "epp.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The Envoy container, in either mode. */}}
{{- define "epp.proxyContainer" -}}
- name: envoy
  image: {{ .Values.router.proxy.image }}
  {{- with .Values.router.proxy.command }}
  command:
    {{- kindIs "string" . | ternary (list .) . | toYaml | nindent 4 }}
  {{- end }}
  {{- with .Values.router.proxy.env }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.router.proxy.args }}
  args:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  args:
  - --config-path
  - /etc/envoy/envoy.yaml
  - --log-level
  - warn
  - --drain-strategy
  - immediate
  - --drain-time-s
  - "60"
  {{- end }}
  ports:
  - name: http
    containerPort: 8081
  - name: envoy-ready
    containerPort: 19001
  readinessProbe:
    httpGet:
      path: /ready
      port: envoy-ready
    periodSeconds: 5
  {{- with .Values.router.proxy.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "epp.containerSecurityContext" . | nindent 4 }}
  volumeMounts:
  - name: envoy-config
    mountPath: /etc/envoy
    readOnly: true
  {{- with .Values.router.proxy.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
