{{/* What Kubernetes would take and then hang on, or what can do nothing: said now instead. Called for its failures. */}}
{{- define "ringway.refuse" -}}
{{- include "ringway.old" . }}
{{- include "ringway.refuseModes" . }}
{{- include "ringway.refuseUpdates" . }}
{{- include "ringway.refuseSources" . }}
{{- include "ringway.refuseMemcached" . }}
{{- end }}

{{- define "ringway.refuseModes" -}}
{{- $mode := .Values.exposure.mode }}
{{- if and (eq .Values.controller "deployment") (ne $mode "service") }}
{{- fail (printf "\n\ncontroller: deployment goes with exposure.mode: service only. With %s two of its pods on one node would wait for each other's port forever." $mode) }}
{{- end }}
{{- if and .Values.exposure.hostIP (ne $mode "hostPort") }}
{{- fail (printf "\n\nexposure.hostIP is for exposure.mode: hostPort; with %s it would do nothing." $mode) }}
{{- end }}
{{- if eq (include "ringway.port" . | int) (int .Values.adminPort) }}
{{- fail (printf "\n\nport and adminPort are both %d." (int .Values.adminPort)) }}
{{- end }}
{{- if and .Values.networkPolicy.enabled (eq $mode "hostNetwork") .Values.memcached.enabled (not .Values.networkPolicy.memcachedClients) }}
{{- fail "\n\nA NetworkPolicy does not know pods with hostNetwork: memcached would refuse the proxies. Name the nodes: networkPolicy.memcachedClients: [{ipBlock: {cidr: 10.0.0.0/16}}]" }}
{{- end }}
{{- end }}

{{/* Zero as a number, or as a share of nothing. */}}
{{- define "ringway.isZero" -}}
{{- if has (toString .) (list "0" "0%") }}true{{ end }}
{{- end }}

{{- define "ringway.refuseUpdates" -}}
{{- $update := .Values.updateStrategy }}
{{- $mode := include "ringway.mode" . }}
{{- $surge := and (not (kindIs "invalid" $update.maxSurge)) (not (include "ringway.isZero" $update.maxSurge)) }}
{{- $away := and (not (kindIs "invalid" $update.maxUnavailable)) (not (include "ringway.isZero" $update.maxUnavailable)) }}
{{- $noneAway := and (not (kindIs "invalid" $update.maxUnavailable)) (not $away) }}
{{- $noSurge := and (not (kindIs "invalid" $update.maxSurge)) (not $surge) }}
{{- if eq $update.type "RollingUpdate" }}
{{- $shares := include "ringway.shares" . }}
{{- if and $surge (not $shares) }}
{{- fail (printf "\n\nupdateStrategy.maxSurge: %v cannot work with exposure.mode: %s. Kubernetes takes it, and then the new pod waits forever for what the old one of its node holds. Leave maxSurge out (one node at a time is without proxy for some seconds), or use exposure.mode: service or hostNetwork, which have no gap." $update.maxSurge $mode) }}
{{- end }}
{{- if and $noneAway (or $noSurge (not $shares)) }}
{{- fail "\n\nupdateStrategy: with neither a pod more nor a pod less an update could not move. Let maxUnavailable or maxSurge be more than 0." }}
{{- end }}
{{- if and $surge $away (eq .Values.controller "daemonset") }}
{{- fail "\n\nupdateStrategy: of maxSurge and maxUnavailable a DaemonSet may have one only; set the other to 0." }}
{{- end }}
{{- end }}
{{- if eq .Values.controller "deployment" }}
{{- if ne $update.type "RollingUpdate" }}
{{- fail "\n\nupdateStrategy.type: OnDelete is for a daemonset; a deployment has RollingUpdate." }}
{{- end }}
{{- if include "ringway.isZero" .Values.pdb.maxUnavailable }}
{{- fail "\n\npdb.maxUnavailable: 0 would let no node be drained, ever. Allow 1." }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ringway.refuseSources" -}}
{{- $sources := list }}
{{- range $name, $value := .Values.discovery }}
{{- if $value }}{{ $sources = append $sources (printf "discovery.%s" $name) }}{{ end }}
{{- end }}
{{- $whole := list }}
{{- if .Values.config.text }}{{ $whole = append $whole "config.text" }}{{ end }}
{{- if .Values.config.existingConfigMap }}{{ $whole = append $whole "config.existingConfigMap" }}{{ end }}
{{- if gt (len $whole) 1 }}
{{- fail "\n\nconfig.text and config.existingConfigMap are both the whole configuration: leave one." }}
{{- end }}
{{- if and $whole .Values.config.settings }}
{{- fail (printf "\n\n%s is the whole configuration, so config.settings would do nothing: leave one." (first $whole)) }}
{{- end }}
{{- if and $whole $sources }}
{{- fail (printf "\n\n%s is the whole configuration, so %s would do nothing: leave one." (first $whole) (first $sources)) }}
{{- end }}
{{- range .Values.extraArgs }}
{{- $flag := splitList "=" . | first }}
{{- if and $whole (contains (printf "- %s=" $flag) (include "ringway.unsaid" $)) }}
{{- fail (printf "\n\nextraArgs: with %s the chart passes %s itself, and ringway does not start with two: set workers or drain.delaySeconds." (first $whole) $flag) }}
{{- end }}
{{- end }}
{{- if gt (len $sources) 1 }}
{{- fail (printf "\n\nThe pool has one source of servers, not several: %s." (join ", " $sources)) }}
{{- end }}
{{- if and $sources .Values.memcached.enabled }}
{{- fail (printf "\n\n%s says where the servers are, but this chart runs memcached itself: set memcached.enabled: false." (first $sources)) }}
{{- end }}
{{- if not (or $whole $sources .Values.memcached.enabled (default dict .Values.config.settings).pools) }}
{{- fail "\n\nThere is nothing to send keys to: set memcached.enabled: true, one of discovery.*, config.settings.pools, config.text or config.existingConfigMap." }}
{{- end }}
{{- if and .Values.config.existingConfigMap (eq .Values.config.reload "restart") }}
{{- fail "\n\nconfig.reload: restart needs a configuration that this chart writes; it cannot see a change of config.existingConfigMap. Leave hot." }}
{{- end }}
{{- end }}

{{- define "ringway.refuseMemcached" -}}
{{- if .Values.memcached.enabled }}
{{- if and .Values.memcached.pdb.enabled (include "ringway.isZero" .Values.memcached.pdb.maxUnavailable) }}
{{- fail "\n\nmemcached.pdb.maxUnavailable: 0 would let no node be drained, ever. Allow 1, or set memcached.pdb.enabled: false." }}
{{- end }}
{{- if eq (include "ringway.fullname" .) (include "ringway.memcached" .) }}
{{- fail (printf "\n\nThe proxies and memcached would both be called %q: set memcached.fullnameOverride." (include "ringway.memcached" .)) }}
{{- end }}
{{- end }}
{{- end }}
