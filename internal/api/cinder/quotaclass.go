package cinder

import (
	"net/http"
	"regexp"
	"strconv"
	"unicode/utf8"
)

// quotaClassBody is the body of PUT /os-quota-class-sets/{class}
// (cinder/api/validation/parameter_types.py, quota_class_set).
var quotaClassBody = envelope("quota_class_set", &schema{kinds: []string{"object"},
	keys: regexp.MustCompile(`^[a-zA-Z0-9-_:. ]{1,300}$`),
	values: &schema{kinds: []string{"integer", "string"}, minLen: 1, pattern: regexp.MustCompile(`^[0-9]*$`),
		bounds: &[2]int64{-1, maxInt}}})

// checkLength wants a step of a path to be a name that can be stored.
func checkLength(what, text string) error {
	if n := utf8.RuneCountInString(text); n > 255 {
		return invalid("%s has %d characters, more than 255.", what, n)
	}
	return nil
}

func showQuotaClass(c *call) error {
	class := c.r.PathValue("class")
	limits, err := c.s.cfg.Control.QuotaClass(c.r.Context(), c.caller, class)
	if err != nil {
		return err
	}
	set := map[string]any{"id": class}
	for name, limit := range limits {
		set[name] = limit
	}
	return c.answer(http.StatusOK, map[string]any{"quota_class_set": set})
}

// updateQuotaClass sets limits of a class. The answer has no id.
func updateQuotaClass(c *call) error {
	o, err := c.checked("quota_class_set", quotaClassBody)
	if err != nil {
		return err
	}
	class, limits := c.r.PathValue("class"), map[string]int64{}
	if err := checkLength("quota_class_name", class); err != nil {
		return err
	}
	for _, m := range o.object("quota_class_set").members {
		if limits[m.name], err = strconv.ParseInt(pyStr(m.value), 10, 64); err != nil {
			return invalid("%s must be an integer", m.name)
		}
	}
	control := c.s.cfg.Control
	if err = control.SetQuotaClass(c.r.Context(), c.caller, class, limits); err != nil {
		return err
	}
	set, err := control.QuotaClass(c.r.Context(), c.caller, class)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string]any{"quota_class_set": set})
}
