{{/* The proxy's pod, the same for a DaemonSet and a Deployment. */}}

{{/* Takes {root, live, times}. */}}
{{- define "ringway.probe" -}}
{{- $admin := include "ringway.admin" .root }}
{{- if hasPrefix "unix:" $admin }}
exec: {command: [/ringway, health, --admin={{ $admin }}{{ if .live }}, --live{{ end }}]}
{{- else }}
httpGet: {path: {{ ternary "/livez" "/readyz" .live }}, port: {{ int .root.Values.adminPort }}}
{{- end }}
{{ toYaml .times }}
{{- end }}

{{- define "ringway.pod" -}}
{{- $mode := include "ringway.mode" . }}
{{- $port := include "ringway.port" . | int }}
{{- $whole := or .Values.config.text .Values.config.existingConfigMap }}
metadata:
  labels: {{- include "ringway.podLabels" (dict "root" . "component" "proxy" "more" .Values.podLabels) | nindent 4 }}
  {{- $annotations := deepCopy .Values.podAnnotations }}
  {{- if eq .Values.config.reload "restart" }}
  {{- $_ := set $annotations "checksum/config" (include "ringway.configText" . | sha256sum) }}
  {{- end }}
  {{- with $annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- $account := dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532 "seccompProfile" (dict "type" "RuntimeDefault") }}
  {{- if eq $mode "socket" }}
  {{- $user := int .Values.exposure.socket.runAsUser }}
  {{- $group := int .Values.exposure.socket.runAsGroup }}
  {{- $account = mergeOverwrite $account (dict "runAsNonRoot" (ne $user 0) "runAsUser" $user "runAsGroup" $group "fsGroup" $group) }}
  {{- end }}
  securityContext: {{- mergeOverwrite $account (deepCopy .Values.podSecurityContext) | toYaml | nindent 4 }}
  serviceAccountName: {{ include "ringway.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "ringway.grace" . }}
  {{- if eq $mode "hostNetwork" }}
  hostNetwork: true
  {{- end }}
  dnsPolicy: {{ default (ternary "ClusterFirstWithHostNet" "ClusterFirst" (eq $mode "hostNetwork")) .Values.dnsPolicy }}
  {{- with .Values.dnsConfig }}
  dnsConfig: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.controller "deployment" }}
  topologySpreadConstraints: {{- include "ringway.spread" (dict "root" . "component" "proxy" "own" .Values.topologySpreadConstraints) | nindent 4 }}
  {{- end }}
  {{- with .Values.extraInitContainers }}
  initContainers: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: ringway
      image: {{ include "ringway.image" (dict "image" .Values.image "tag" .Chart.AppVersion) | quote }}
      imagePullPolicy: {{ default .Values.image.pullPolicy .Values.imagePullPolicy }}
      args:
        - run
        - --config=/etc/ringway/{{ include "ringway.configKey" . }}
        {{- if $whole }}
        {{- /* A configuration that comes from elsewhere need not say what the pod decides. */}}
        - --listen={{ include "ringway.listen" . }}
        - --admin={{ include "ringway.admin" . }}
        {{- with include "ringway.unsaid" . | trim }}{{ . | nindent 8 }}{{ end }}
        {{- if eq $mode "hostNetwork" }}
        - --reuse-port
        {{- end }}
        {{- end }}
        - --log-level={{ .Values.log.level }}
        - --log-format={{ .Values.log.format }}
        {{- range .Values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      {{- with .Values.extraEnv }}
      env: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if ne $mode "hostNetwork" }}
      {{- /* With hostNetwork a port that is declared here is taken from the node by the scheduler. */}}
      ports:
        {{- if ne $mode "socket" }}
        - name: memcache
          containerPort: {{ $port }}
          {{- if eq $mode "hostPort" }}
          hostPort: {{ $port }}
          {{- with .Values.exposure.hostIP }}
          hostIP: {{ . | quote }}
          {{- end }}
          {{- end }}
          protocol: TCP
        {{- end }}
        - name: admin
          containerPort: {{ int .Values.adminPort }}
          protocol: TCP
      {{- end }}
      startupProbe: {{- include "ringway.probe" (dict "root" . "live" true "times" .Values.probes.startup) | nindent 8 }}
      readinessProbe: {{- include "ringway.probe" (dict "root" . "live" false "times" .Values.probes.readiness) | nindent 8 }}
      livenessProbe: {{- include "ringway.probe" (dict "root" . "live" true "times" .Values.probes.liveness) | nindent 8 }}
      resources: {{- toYaml .Values.resources | nindent 8 }}
      securityContext: {{- include "ringway.restricted" .Values.securityContext | nindent 8 }}
      volumeMounts:
        {{- /* The folder, not a file of it: a file mounted by subPath never changes. */}}
        - name: config
          mountPath: /etc/ringway
          readOnly: true
        {{- if has $mode (list "socket" "hostNetwork") }}
        - name: socket
          mountPath: /run/ringway
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "ringway.configMap" . }}
    {{- if eq $mode "socket" }}
    - name: socket
      hostPath:
        path: {{ .Values.exposure.socket.hostPath }}
        type: DirectoryOrCreate
    {{- else if eq $mode "hostNetwork" }}
    - name: socket
      emptyDir: {}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* A container's security context as the restricted profile asks for, with what the user lays over it. */}}
{{- define "ringway.restricted" -}}
{{- $strict := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) }}
{{- mergeOverwrite $strict (deepCopy .) | toYaml }}
{{- end }}

{{/* Spread over zones and nodes as far as possible; takes {root, component, own}. */}}
{{- define "ringway.spread" -}}
{{- if .own }}
{{- toYaml .own }}
{{- else }}
{{- $labels := include "ringway.selector" . | fromYaml }}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- toYaml $labels | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}
