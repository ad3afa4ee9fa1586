{{/* What everything is called: each name is made here, once, and nowhere else. */}}

{{- define "ringway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "ringway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "ringway.name" . }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* StatefulSet, service and PDB of memcached. 52 letters: pods and their revision add eleven. */}}
{{- define "ringway.memcached" -}}
{{- default (printf "%s-memcached" (.Release.Name | trunc 42 | trimSuffix "-")) .Values.memcached.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "ringway.serviceAccount" -}}
{{- default (ternary (include "ringway.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "ringway.configMap" -}}
{{- default (include "ringway.fullname" .) .Values.config.existingConfigMap }}
{{- end }}

{{/* What selects pods; takes {root, component}. It can never change, so nothing optional is in it. */}}
{{- define "ringway.selector" -}}
app.kubernetes.io/name: {{ include "ringway.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name | trunc 63 }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of an object; takes {root, component, more}. Later ones do not replace what selects. */}}
{{- define "ringway.labels" -}}
{{- $own := include "ringway.selector" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_" | trunc 63) }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- merge $own (default dict .more) .root.Values.commonLabels | toYaml }}
{{- end }}

{{/* Labels of a pod: as above, without what changes at every upgrade and would restart it. Takes {root, component, more}. */}}
{{- define "ringway.podLabels" -}}
{{- $own := include "ringway.selector" . | fromYaml }}
{{- merge $own (default dict .more) .root.Values.commonLabels | toYaml }}
{{- end }}

{{/* An image; takes {image, tag}. */}}
{{- define "ringway.image" -}}
{{- if kindIs "string" .image }}
{{- fail (printf "\n\nimage: %q is the form of stable/mcrouter; write image: {repository: …, tag: …}, and ringway's image there: mcrouter's does not run with this chart." .image) }}
{{- end }}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .tag .image.tag }}
{{- end }}
{{- end }}
