{{- define "mesh.rootNamespace" -}}
{{ .Values.mesh.rootNamespace | default .Release.Namespace }}
{{- end -}}

{{- define "mesh.controlPlaneAddress" -}}
{{ .Values.mesh.controlPlaneAddress | default (printf "istiod.%s.svc:15012" .Release.Namespace) }}
{{- end -}}

{{/* The image of one of the programs. */}}
{{- define "mesh.image" -}}
{{ .context.Values.image.registry }}/{{ .program }}:{{ .context.Values.image.tag | default .context.Chart.AppVersion }}
{{- end -}}

{{/* Labels by which a part's pods are selected: they never change. */}}
{{- define "mesh.selector" -}}
app.kubernetes.io/name: {{ .part }}
app.kubernetes.io/instance: {{ .context.Release.Name }}
{{- end -}}

{{- define "mesh.labels" -}}
{{ include "mesh.selector" . }}
app.kubernetes.io/part-of: ztunnel-mesh
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ .context.Chart.Name }}-{{ .context.Chart.Version }}
{{- end -}}

{{- define "mesh.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Further environment variables. */}}
{{- define "mesh.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}
