{{/* The release's name in front of what belongs to it; at most 52 bytes, so that a pool's name fits behind it where it is short. */}}
{{- define "thence.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 30 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "thence.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" -}}
{{- end -}}

{{/* Labels of everything. Takes the root. */}}
{{- define "thence.labels" -}}
helm.sh/chart: {{ include "thence.chart" . }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: thence
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* What selects a pool's workers: never changed, since a Deployment's selector can't be. Takes {root, pool}. */}}
{{- define "thence.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: worker
thence.dev/pool: {{ .pool.name }}
{{- end -}}

{{/* All pools, each with the defaults below it, as JSON: {"pools": [...]}. */}}
{{- define "thence.pools" -}}
{{- $pools := list -}}
{{- $names := dict -}}
{{- range .Values.pools -}}
{{- if hasKey $names .name -}}
{{- fail (printf "pools: %s is there twice" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- $pool := mergeOverwrite (deepCopy $.Values.poolDefaults) (deepCopy .) -}}
{{- if and $pool.keda.enabled $pool.hpa.enabled -}}
{{- fail (printf "pools: %s: keda and hpa can't both scale it" .name) -}}
{{- end -}}
{{- if and $pool.hpa.enabled (not $pool.hpa.cpuUtilization) (not $pool.hpa.jobsLag) -}}
{{- fail (printf "pools: %s: hpa needs cpuUtilization or jobsLag" .name) -}}
{{- end -}}
{{- if and $pool.services $pool.servicesConfigMap -}}
{{- fail (printf "pools: %s: services and servicesConfigMap can't both be given" .name) -}}
{{- end -}}
{{- if and $pool.scripts $pool.scriptsConfigMap -}}
{{- fail (printf "pools: %s: scripts and scriptsConfigMap can't both be given" .name) -}}
{{- end -}}
{{- $pools = append $pools $pool -}}
{{- end -}}
{{- dict "pools" $pools | toJson -}}
{{- end -}}

{{- define "thence.poolName" -}}
{{- printf "%s-%s" (include "thence.fullname" .root) .pool.name -}}
{{- end -}}

{{- define "thence.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "thence.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "thence.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "thence.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "thence.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* How to reach NATS. Takes {root, creds, inbox}. */}}
{{- define "thence.natsEnv" -}}
- name: NATS_URL
  value: {{ .root.Values.nats.url | quote }}
{{- if .creds.secret }}
- name: NATS_CREDS
  value: /etc/thence/nats/{{ .creds.key }}
{{- end }}
{{- with .inbox }}
- name: NATS_INBOX_PREFIX
  value: {{ . | quote }}
{{- end }}
{{- with .root.Values.nats.tls }}
{{- if .secret }}
- name: NATS_CA
  value: /etc/thence/tls/ca.crt
{{- if .client }}
- name: NATS_CERT
  value: /etc/thence/tls/tls.crt
- name: NATS_KEY
  value: /etc/thence/tls/tls.key
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "thence.natsMounts" -}}
{{- if .creds.secret }}
- name: nats
  mountPath: /etc/thence/nats
  readOnly: true
{{- end }}
{{- if .root.Values.nats.tls.secret }}
- name: tls
  mountPath: /etc/thence/tls
  readOnly: true
{{- end }}
{{- end -}}

{{- define "thence.natsVolumes" -}}
{{- if .creds.secret }}
- name: nats
  secret:
    secretName: {{ .creds.secret }}
    defaultMode: 0440
{{- end }}
{{- if .root.Values.nats.tls.secret }}
- name: tls
  secret:
    secretName: {{ .root.Values.nats.tls.secret }}
    defaultMode: 0440
{{- end }}
{{- end -}}
