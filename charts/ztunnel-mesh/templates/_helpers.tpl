{{- define "mesh.rootNamespace" -}}
{{ .Values.mesh.rootNamespace | default .Release.Namespace }}
{{- end -}}

{{- define "mesh.controlPlaneAddress" -}}
{{ .Values.mesh.controlPlaneAddress | default (printf "istiod.%s.svc:15012" .Release.Namespace) }}
{{- end -}}

{{/* Where ztunnel finds the CA. */}}
{{- define "mesh.caAddress" -}}
{{ .Values.mesh.caAddress | default (include "mesh.controlPlaneAddress" .) }}
{{- end -}}

{{/* The image of one of the programs. */}}
{{- define "mesh.image" -}}
{{ .context.Values.image.registry }}/{{ .program }}:{{ .context.Values.image.tag | default .context.Chart.AppVersion }}
{{- end -}}

{{/* Labels by which a part's pods are selected: they never change. */}}
{{- define "mesh.selector" -}}
app.kubernetes.io/name: {{ .part | quote }}
app.kubernetes.io/instance: {{ .context.Release.Name | quote }}
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
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Environment variables: the chart's own (the name of a template with a list), and further ones by name, which take the
place of those of the same name. A name that is there twice is refused by server-side apply. */}}
{{- define "mesh.env" -}}
{{- $further := .further }}
{{- $all := list }}
{{- range include .own .context | fromYamlArray }}
{{- if not (hasKey $further .name) }}
{{- $all = append $all . }}
{{- end }}
{{- end }}
{{- range $name, $value := $further }}
{{- $all = append $all (dict "name" $name "value" (include "mesh.text" $value)) }}
{{- end }}
{{- toYaml $all }}
{{- end -}}

{{/* A value as text. Helm takes every number for one with a fraction, and would write 10000000 as 1e+07. */}}
{{- define "mesh.text" -}}
{{- if and (kindIs "float64" .) (eq (float64 (int64 .)) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end -}}

{{/* The seconds of 90s, 15m, 24h or 7d. */}}
{{- define "mesh.seconds" -}}
{{ mul (regexFind "^[0-9]+" . | int64) (get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) (regexFind "[smhd]$" .)) }}
{{- end -}}

{{/* The name of the definition in a file. */}}
{{- define "mesh.definition" -}}
{{- $plural := base . | trimSuffix ".yaml" -}}
{{ $plural }}.{{ has $plural (list "peerauthentications" "authorizationpolicies") | ternary "security" "networking" }}.istio.io
{{- end -}}

{{/* Definitions that are in the cluster and not this release's, where those are left alone; also what a release of this name
left behind in another namespace, which Helm counts as another's. */}}
{{- define "mesh.definitionsOfOthers" -}}
{{- $others := list }}
{{- range $path, $_ := .Files.Glob "files/crds/*.yaml" }}
{{- $name := include "mesh.definition" $path }}
{{- $present := eq $.Values.crds.install "auto" | ternary (lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $name) dict }}
{{- if $present }}
{{- $of := dig "metadata" "annotations" dict $present }}
{{- if not (and (eq (get $of "meta.helm.sh/release-name") $.Release.Name) (eq (get $of "meta.helm.sh/release-namespace") $.Release.Namespace)) }}
{{- $others = append $others $name }}
{{- end }}
{{- end }}
{{- end }}
{{- join " " $others }}
{{- end -}}
