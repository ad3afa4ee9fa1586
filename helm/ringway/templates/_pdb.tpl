{{/* A PodDisruptionBudget; takes {root, component, name, maxUnavailable}. */}}
{{- define "ringway.pdb" -}}
apiVersion: {{ .root.Capabilities.APIVersions.Has "policy/v1" | ternary "policy/v1" "policy/v1beta1" }}
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "ringway.labels" (dict "root" .root "component" .component) | nindent 4 }}
spec:
  maxUnavailable: {{ .maxUnavailable }}
  {{- if semverCompare ">=1.27-0" .root.Capabilities.KubeVersion.Version }}
  # a pod that does not run anyway must not keep its node from being drained
  unhealthyPodEvictionPolicy: AlwaysAllow
  {{- end }}
  selector:
    matchLabels: {{- include "ringway.selector" (dict "root" .root "component" .component) | nindent 6 }}
{{- end }}
