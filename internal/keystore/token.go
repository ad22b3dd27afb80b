package keystore

import "kvol/internal/block"

// tokens says what is sealed: a token can't be passed off as a key.
const tokens = "kvol token"

// SealToken seals what a caller showed, for a job that asks other services on the
// caller's behalf; nil for no token.
func (s *Sealer) SealToken(t block.Token) []byte {
	if t == "" {
		return nil
	}
	return s.seal(tokens, []byte(t))
}

// OpenToken opens it again. Corrupt if it was not sealed with this zone's key.
func (s *Sealer) OpenToken(sealed []byte) (block.Token, error) {
	if len(sealed) == 0 {
		return "", nil
	}
	t, err := s.aead.Open(nil, nil, sealed, []byte(tokens))
	return block.Token(t), block.Wrap(block.Corrupt, err, "The token of a job was not sealed with this zone's key.")
}
