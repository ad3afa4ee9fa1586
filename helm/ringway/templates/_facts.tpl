{{/* What follows from the values, each said once: ports, modes, times, bytes. */}}

{{/* Values of the chart stable/mcrouter that mean the same here come first; see _old.tpl for the others. */}}
{{- define "ringway.port" -}}
{{- $old := default dict .Values.mcrouterCommandParams }}
{{- $oldHost := default dict .Values.daemonset }}
{{- coalesce $oldHost.hostPort $old.port .Values.port | int }}
{{- end }}

{{- define "ringway.mode" -}}
{{- if eq .Values.controller "deployment" }}service{{ else }}{{ .Values.exposure.mode }}{{ end }}
{{- end }}

{{/* "true" when two proxies of one node can serve at once. Kubernetes gives a port of the node to one pod only; on the node's
     own network, where it is asked for none, the kernel lets both have it (reuse_port). */}}
{{- define "ringway.shares" -}}
{{- if has (include "ringway.mode" .) (list "service" "hostNetwork") }}true{{ end }}
{{- end }}

{{/* "true" when a new proxy can start while the old one of the same node still serves. */}}
{{- define "ringway.surges" -}}
{{- if include "ringway.shares" . }}
{{- if or (eq .Values.controller "deployment") (semverCompare ">=1.22-0" .Capabilities.KubeVersion.Version) }}true{{ end }}
{{- end }}
{{- end }}

{{/* Where probes ask. On the node's network two proxies may be there at once, so each has a socket of its own. */}}
{{- define "ringway.admin" -}}
{{- if eq (include "ringway.mode" .) "hostNetwork" -}}
unix:/run/ringway/admin.sock
{{- else -}}
{{ .Values.bindAddress }}:{{ .Values.adminPort }}
{{- end }}
{{- end }}

{{- define "ringway.drainDelay" -}}
{{- $default := ternary 5 0 (eq (include "ringway.mode" .) "service") }}
{{- if kindIs "invalid" .Values.drain.delaySeconds }}{{ $default }}{{ else }}{{ int .Values.drain.delaySeconds }}{{ end }}
{{- end }}

{{- define "ringway.drainTimeout" -}}
{{- $default := ternary 5 2 (eq (include "ringway.shares" .) "true") }}
{{- if kindIs "invalid" .Values.drain.timeoutSeconds }}{{ $default }}{{ else }}{{ int .Values.drain.timeoutSeconds }}{{ end }}
{{- end }}

{{- define "ringway.grace" -}}
{{- $needed := add (include "ringway.drainDelay" . | int) (include "ringway.drainTimeout" . | int) }}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds }}
{{- add $needed 10 }}
{{- else }}
{{- if le (int .Values.terminationGracePeriodSeconds) (int $needed) }}
{{- fail (printf "\n\nterminationGracePeriodSeconds is %d, but a proxy drains for up to %d s (drain.delaySeconds + drain.timeoutSeconds) and would be killed in the middle of it: give it more, or leave it empty." (int .Values.terminationGracePeriodSeconds) $needed) }}
{{- end }}
{{- int .Values.terminationGracePeriodSeconds }}
{{- end }}
{{- end }}

{{/* Bytes of a quantity such as 256Mi, 1.5Gi, 500M or 268435456; 0 when there is none. */}}
{{- define "ringway.bytes" -}}
{{- /* A number of a values file is a float64, whose own text has an exponent. */}}
{{- $text := kindIs "float64" . | ternary (printf "%.0f" .) (toString .) }}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $text }}
{{- $unit := trimPrefix $number $text }}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "T" 1000000000000 }}
{{- if and $number (hasKey $units $unit) }}
{{- mulf (float64 $number) (get $units $unit) | int64 }}
{{- else }}
{{- fail (printf "\n\n%q is not a quantity of memory such as 256Mi or 2Gi." $text) }}
{{- end }}
{{- end }}

{{/* The memory limit in bytes of the resources given; 0 without one. */}}
{{- define "ringway.memoryLimit" -}}
{{- $limits := default dict (default dict .).limits }}
{{- if $limits.memory }}{{ include "ringway.bytes" $limits.memory }}{{ else }}0{{ end }}
{{- end }}

{{/* memcached's -m. Its hash table, its connections' buffers and its slabs' slack come on top, so the limit is more. */}}
{{- define "ringway.memcachedMiB" -}}
{{- $limit := include "ringway.memoryLimit" .Values.memcached.resources | int64 }}
{{- if kindIs "invalid" .Values.memcached.memoryMiB }}
{{- if not $limit }}
{{- fail "\n\nmemcached.resources.limits.memory is not set, so memcached's -m cannot be derived from it: set it, or memcached.memoryMiB." }}
{{- end }}
{{- $size := sub (div (mul $limit 8) 10485760) 16 }}
{{- if lt $size 32 }}
{{- fail (printf "\n\nmemcached.resources.limits.memory leaves %d MiB for items: give it 64Mi or more." $size) }}
{{- end }}
{{- $size }}
{{- else }}
{{- $size := int64 .Values.memcached.memoryMiB }}
{{- if and $limit (gt (mul $size 10485760) (mul $limit 9)) }}
{{- fail (printf "\n\nmemcached.memoryMiB is %d: with more than nine tenths of the memory limit (%s) memcached is killed as it fills up." $size (toYaml .Values.memcached.resources.limits.memory)) }}
{{- end }}
{{- $size }}
{{- end }}
{{- end }}
