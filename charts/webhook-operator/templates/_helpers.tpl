{{- define "manager.labels" -}}
app.kubernetes.io/name: webhook-operator
app.kubernetes.io/component: manager
{{- end }}

{{- define "gateway.labels" -}}
app.kubernetes.io/name: webhook-operator
app.kubernetes.io/component: gateway
{{- end }}

{{- define "manager.image" -}}
{{ .Values.manager.image.repository }}:{{ .Values.manager.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "dispatcher.image" -}}
{{ .Values.dispatcher.image.repository }}:{{ .Values.dispatcher.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The 60 % of a volume that a queue may take, in bytes; the rest is for its log and compaction. */ -}}
{{- define "gateway.queueBytes" -}}
{{- $size := .Values.gateway.queue.size -}}
{{- $number := regexFind "^[0-9]+" $size | int64 -}}
{{- $unit := regexFind "[A-Za-z]*$" $size -}}
{{- $factors := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- if not (hasKey $factors $unit) }}{{ fail (printf "gateway.queue.size: %q has no unit that is known: use Mi, Gi or Ti" $size) }}{{ end -}}
{{- div (mul $number (get $factors $unit | int64) 6) 10 -}}
{{- end }}

{{- /* What both the manager and the gateway are told of the way out. */ -}}
{{- define "egress.args" -}}
{{- range .Values.egressAllow }}
- --egress-allow={{ . }}
{{- end }}
{{- with .Values.egressProxy }}
- --egress-proxy={{ . }}
{{- end }}
{{- end }}

{{- define "container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
