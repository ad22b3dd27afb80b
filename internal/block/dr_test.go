package block

import "testing"

func TestRootHashText(t *testing.T) {
	h := RootHash{1, 2, 31: 0xff}
	text, err := h.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back RootHash
	if err := back.UnmarshalText(text); err != nil || back != h {
		t.Fatalf("%s came back as %s: %v", h, back, err)
	}
	for _, bad := range []string{"", "01", string(text) + "00", "zz" + string(text[2:])} {
		if err := back.UnmarshalText([]byte(bad)); !Is(err, Invalid) {
			t.Errorf("%q: %v, want Invalid", bad, err)
		}
	}
}
