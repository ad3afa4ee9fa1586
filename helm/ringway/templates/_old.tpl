{{/* Values of the chart stable/mcrouter (and its heirs). What means the same here is taken (_facts.tpl), what does not
     is refused with the words to write instead. Called for its failures only. */}}
{{- define "ringway.old" -}}
{{- if eq .Values.controller "statefulset" }}
{{- fail "\n\ncontroller: statefulset is of stable/mcrouter. A proxy has no state: write controller: deployment, with statefulset.replicas as replicaCount." }}
{{- end }}
{{- with .Values.mcrouterCommandParams }}
{{- if .configFile }}
{{- fail (printf "\n\nmcrouterCommandParams.configFile is of stable/mcrouter, where the file had to be in the chart. ringway reads mcrouter's JSON as it is: helm install … --set-file config.text=%s" .configFile) }}
{{- end }}
{{- end }}
{{- with .Values.memcachedService }}
{{- $name := default "NAME" .serviceName }}
{{- fail (printf "\n\nmemcachedService is of stable/mcrouter, which never used it. Write instead:\n  memcached: {enabled: false}\n  discovery: {statefulset: {name: %s, service: %s, namespace: %s, port: %v}}" $name $name (default "default" .namespace) (default 11211 .port)) }}
{{- end }}
{{- end }}
