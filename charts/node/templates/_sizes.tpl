{{/* Bytes and bits, to the digit. Template functions compute with 64 bits, so everything is bounded before it is multiplied. */}}

{{/* Bytes of the largest file: data.size, as text like 100MB (decimal) or 64MiB (binary), or as a number. */}}
{{- define "node.largest" -}}
{{- $most := 10000000000000 -}}
{{- $size := .Values.data.size -}}
{{- /* a number in a file arrives as a float, which would print as 1e+08 */ -}}
{{- $text := kindIs "string" $size | ternary (toString $size) (int64 $size | toString) -}}
{{- $bytes := 0 -}}
{{- if regexMatch "^[0-9]+$" $text -}}
{{- $bytes = int64 $text -}}
{{- else -}}
{{- $unit := regexFind "[A-Za-z]+$" $text | lower -}}
{{- $base := contains "i" $unit | ternary 1024 1000 -}}
{{- $scale := 1 -}}
{{- range until (get (dict "b" 0 "k" 1 "m" 2 "g" 3 "t" 4) (substr 0 1 $unit)) -}}
{{- $scale = mul $scale $base -}}
{{- end -}}
{{- $whole := regexFind "^[0-9]+" $text | int64 -}}
{{- $digits := regexFind "\\.[0-9]+" $text | trimPrefix "." -}}
{{- $tens := 1 -}}
{{- range until (len $digits) -}}
{{- $tens = mul $tens 10 -}}
{{- end -}}
{{- /* without leading zeros, which would make it octal */ -}}
{{- $parts := mul (regexReplaceAll "^0+" $digits "" | default "0" | int64) $scale -}}
{{- if and (le $whole (div $most $scale)) (eq 0 (mod $parts $tens | int)) -}}
{{- $bytes = add (mul $whole $scale) (div $parts $tens) -}}
{{- end -}}
{{- end -}}
{{- if or (lt $bytes 1) (gt $bytes $most) -}}
{{- fail (printf "data.size: %q is not a whole number of bytes between 1 B and 10 TB" $text) -}}
{{- end -}}
{{- $bytes -}}
{{- end -}}

{{/* Bytes that the node's program may store, in blocks of 64 KiB: data.files, one more that broke off, and its own. */}}
{{- define "node.quota" -}}
{{- $blocks := add 2 (div (include "node.largest" . | int64) 65536) -}}
{{- add 67108864 (mul 65536 $blocks (add1 (int64 .Values.data.files))) -}}
{{- end -}}

{{/* Bytes of a node's volume: what its program stores, and data.files that are made to be seeded; 2 % for what blocks
     take besides their content, 256 MiB for logs and databases. */}}
{{- define "node.volume" -}}
{{- $copies := add1 (mul 2 (int64 .Values.data.files)) -}}
{{- add 268435456 (div (mul 51 $copies (include "node.largest" . | int64)) 50) -}}
{{- end -}}

{{/* link.rate as bits a second, the way that Kubernetes writes quantities: 100M for 100mbit; empty for no limit. */}}
{{- define "node.bandwidth" -}}
{{- with .Values.link.rate -}}
{{- $letter := regexFind "[kmg]" (lower .) -}}
{{- $whole := regexFind "^[0-9]+" . | int64 -}}
{{- $digits := regexFind "\\.[0-9]+" . | trimPrefix "." -}}
{{- /* thousandths of the unit, so that a fraction stays whole */ -}}
{{- $thousandths := add (mul 1000 $whole) (regexReplaceAll "^0+" (printf "%s000" $digits | trunc 3) "" | default "0" | int64) -}}
{{- $bits := mul $thousandths (get (dict "k" 1 "m" 1000 "g" 1000000) $letter) -}}
{{- if or (lt $bits 100000) (gt $bits 100000000000) -}}
{{- fail (printf "link.rate: %q is not between 100kbit and 100gbit" .) -}}
{{- end -}}
{{- if eq 0 (mod $bits 1000000000 | int) -}}{{ div $bits 1000000000 }}G
{{- else if eq 0 (mod $bits 1000000 | int) -}}{{ div $bits 1000000 }}M
{{- else if eq 0 (mod $bits 1000 | int) -}}{{ div $bits 1000 }}k
{{- else -}}{{ $bits }}
{{- end -}}
{{- end -}}
{{- end -}}
