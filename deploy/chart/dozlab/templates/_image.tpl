{{/* The name of one of Dozlab's images: include "dozlab.image" (list . "dozlab-init") */}}
{{- define "dozlab.image" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.images.registry }}{{ . }}/{{ end -}}
{{- index . 1 }}:{{ $root.Values.images.tag | default $root.Chart.AppVersion -}}
{{- end -}}
