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

{{/* "true" or nothing. */}}
{{- define "epp.leaderElection" -}}
{{- $epp := .Values.router.epp -}}
{{- if kindIs "invalid" $epp.leaderElection -}}
{{- if gt (int $epp.replicas) 1 }}true{{ end -}}
{{- else if $epp.leaderElection }}true{{ end -}}
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
  args:
  - --config-path
  - /etc/envoy/envoy.yaml
  - --log-level
  - warn
  - --drain-strategy
  - immediate
  - --drain-time-s
  - "60"
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
{{- end }}
