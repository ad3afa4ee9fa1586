{{/* ringway's configuration, made from the values. */}}

{{/* The one source of the pool, under the name that the configuration has for it. */}}
{{- define "ringway.source" -}}
{{- if .Values.memcached.enabled }}
statefulset:
  name: {{ include "ringway.memcached" . }}
  service: {{ include "ringway.memcached" . }}
  namespace: {{ .Release.Namespace }}
  port: {{ .Values.memcached.port }}
  replicas: auto
  {{- with .Values.clusterDomain }}
  cluster_domain: {{ . }}
  {{- end }}
{{- else }}
{{- range $name, $value := .Values.discovery }}
{{- if $value }}
{{- if eq $name "statefulset" }}
{{- $value = merge dict $value (dict "namespace" $.Release.Namespace "port" 11211 "replicas" "auto") }}
{{- with $.Values.clusterDomain }}{{ $value = merge $value (dict "cluster_domain" .) }}{{ end }}
{{- end }}
{{- dict $name $value | toYaml }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ringway.listen" -}}
{{- if eq (include "ringway.mode" .) "socket" -}}
unix:/run/ringway/ringway.sock
{{- else -}}
{{ .Values.bindAddress }}:{{ include "ringway.port" . }}
{{- end }}
{{- end }}

{{/* The configuration's file in the ConfigMap. ringway goes by its ending: a .yaml is never read as mcrouter's. */}}
{{- define "ringway.configKey" -}}
{{- $text := default "" .Values.config.text | trimPrefix "\ufeff" | trim }}
{{- $isMcrouters := or (hasPrefix "{" $text) (hasPrefix "//" $text) (hasPrefix "/*" $text) }}
{{- default (ternary "ringway.json" "ringway.yaml" $isMcrouters) .Values.config.key }}
{{- end }}

{{/* Flags count more than what is written, so a text that says it itself gets none. What a ConfigMap says is not known here:
     its `workers` count, and the delay is the one that the pod's grace period was made for. */}}
{{- define "ringway.unsaid" -}}
{{- $said := default "" .Values.config.text | fromYaml }}
{{- if not (or .Values.config.existingConfigMap (hasKey $said "workers")) }}
- --workers={{ .Values.workers }}
{{- end }}
{{- if not (hasKey $said "drain_delay") }}
- --drain-delay={{ include "ringway.drainDelay" . }}s
{{- end }}
{{- end }}

{{- define "ringway.config" -}}
{{- $config := dict "listen" (list (include "ringway.listen" .)) }}
{{- $_ := set $config "admin" (include "ringway.admin" .) }}
{{- if eq (include "ringway.mode" .) "hostNetwork" }}
{{- $_ := set $config "reuse_port" true }}
{{- end }}
{{- $_ := set $config "workers" .Values.workers }}
{{- $_ := set $config "drain_delay" (printf "%ss" (include "ringway.drainDelay" .)) }}
{{- $_ := set $config "drain_timeout" (printf "%ss" (include "ringway.drainTimeout" .)) }}
{{- with include "ringway.memoryLimit" .Values.resources | int64 }}
{{- /* Half, since sockets, trees and the allocator need memory too. */}}
{{- $_ := set $config "limits" (dict "buffer_bytes_max" (div . 2)) }}
{{- end }}
{{- with include "ringway.source" . | fromYaml }}
{{- $_ := set $config "pools" (dict "main" (merge dict . $.Values.pool)) }}
{{- end }}
{{- mergeOverwrite $config (deepCopy .Values.config.settings) | toYaml }}
{{- end }}
