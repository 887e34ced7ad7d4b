package servicefile

// Schema is the JSON schema of the file (draft 2020-12), for editors. The one in the repository, services.schema.json, is
// made of it. It takes all that the reader takes. What it can't express the reader alone refuses: two services with the
// same URL, a size over the greatest, a host that is none.
func Schema() map[string]any {
	off := []any{map[string]any{"const": "off"}, map[string]any{"const": false}}
	service := map[string]any{"$ref": "#/$defs/service"}
	without := map[string]any{"anyOf": append(off, service)}
	return map[string]any{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "Services of a Thence worker pool",
		"description": "The outside APIs that scripts may call. See docs/services.md.",
		"type":        "object", "additionalProperties": false, "required": []string{"services"},
		"properties": map[string]any{"services": map[string]any{
			"type": "object", "propertyNames": map[string]any{"pattern": "^[a-z][a-z0-9_-]{0,31}$", "not": map[string]any{"enum": []string{"body", "timer"}}},
			"properties":           map[string]any{"default": without, "stripe": without},
			"additionalProperties": map[string]any{"anyOf": append(off, map[string]any{"allOf": []any{service, map[string]any{"required": []string{"url"}}}})},
		}},
		"$defs": map[string]any{"service": object(fields...).schema},
	}
}

// Fields are the names of all fields, those within others after them.
func Fields() []string {
	var names []string
	for _, group := range [][]field{fields, timeoutFields, retryFields, rateFields, breakerFields} {
		for _, f := range group {
			names = append(names, f.name)
		}
	}
	return names
}
