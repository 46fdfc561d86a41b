package authority_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
)

func issue(t *testing.T, c *authoritytest.Cluster, role fabric.Role) authority.Token {
	t.Helper()
	token, err := c.Registrar.Issue(t.Context(), role, 0)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func request(t *testing.T, name string, token authority.Token) authority.Request {
	t.Helper()
	candidate, err := authority.NewCandidate(t.TempDir(), name, token)
	if err != nil {
		t.Fatal(err)
	}
	q, err := candidate.Request()
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestTokenSpelling(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	token := issue(t, c, fabric.RoleDeveloper)
	s := token.Encode()
	for _, spelling := range []string{s, strings.ToUpper(s), " " + s[:20] + "\n  " + s[20:] + "\n"} {
		back, err := authority.ParseToken(spelling)
		if err != nil || back != token {
			t.Errorf("%q: %v", spelling, err)
		}
	}
	if token.Cluster() != c.First.Identity().Cluster {
		t.Errorf("token of cluster %s, want %s", token.Cluster(), c.First.Identity().Cluster)
	}
	if strings.Contains(token.String(), s[50:]) {
		t.Error("a printed token shows its secret")
	}
	for i := range s {
		for _, wrong := range []byte("a2z-") {
			if s[i] == wrong {
				continue
			}
			if _, err := authority.ParseToken(s[:i] + string(wrong) + s[i+1:]); !errors.Is(err, authority.ErrTokenMistyped) {
				t.Fatalf("typo at %d: %v", i, err)
			}
		}
		if _, err := authority.ParseToken(s[:i]); !errors.Is(err, authority.ErrTokenMistyped) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestTokenCases(t *testing.T) {
	c, other := authoritytest.NewCluster(t, "alpha"), authoritytest.NewCluster(t, "alpha")
	used := issue(t, c, fabric.RoleNode)
	if _, err := c.Registrar.Admit(t.Context(), request(t, "beta", used)); err != nil {
		t.Fatal(err)
	}
	revoked := issue(t, c, fabric.RoleNode)
	if err := c.Registrar.RevokeToken(t.Context(), revoked.ID()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		token authority.Token
		want  error
	}{
		{used, fabric.ErrTokenUsed},
		{revoked, fabric.ErrTokenUnknown},
		{issue(t, other, fabric.RoleNode), fabric.ErrOtherCluster},
	} {
		_, err := c.Registrar.Admit(t.Context(), request(t, "gamma", test.token))
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.want.Error()) || !strings.Contains(err.Error(), test.token.ID()) {
			t.Errorf("%v, want %v", err, test.want)
		}
	}
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authoritytest.NewCluster(t, "alpha")
		good, late := issue(t, c, fabric.RoleNode), issue(t, c, fabric.RoleNode)
		time.Sleep(authority.DefaultTTL - time.Second)
		if _, err := c.Registrar.Admit(t.Context(), request(t, "beta", good)); err != nil {
			t.Errorf("just in time: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := c.Registrar.Admit(t.Context(), request(t, "gamma", late)); !errors.Is(err, fabric.ErrTokenExpired) {
			t.Errorf("too late: %v", err)
		}
		time.Sleep(30 * 24 * time.Hour)
		issue(t, c, fabric.RoleNode)
		if records, err := c.Registrar.List(t.Context()); err != nil || len(records) != 1 {
			t.Errorf("old records stay: %v, %v", records, err)
		}
	})
}

func TestCertificateRenewsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authoritytest.NewCluster(t, "alpha")
		person := c.Admit(t, "ada", fabric.RoleViewer)
		for range 30 {
			time.Sleep(60 * 24 * time.Hour)
			if _, err := c.First.Verify(chainOf(t, c.First)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.First.Verify(chainOf(t, person)); err == nil {
			t.Error("a person's certificate lives for ever")
		}
	})
}

// TestTokenRace has many newcomers redeem one token at once: exactly one is admitted.
func TestTokenRace(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	token := issue(t, c, fabric.RoleViewer)
	var work sync.WaitGroup
	results := make(chan error, 16)
	for range cap(results) {
		q := request(t, "ada", token)
		work.Go(func() {
			_, err := c.Registrar.Admit(t.Context(), q)
			results <- err
		})
	}
	work.Wait()
	close(results)
	admitted := 0
	for err := range results {
		if err == nil {
			admitted++
		} else if !errors.Is(err, fabric.ErrTokenUsed) {
			t.Error(err)
		}
	}
	if admitted != 1 {
		t.Errorf("%d admitted by one token", admitted)
	}
}

// TestLostAnswer repeats a join whose answer, or whose write's outcome, was lost: the same key may.
func TestLostAnswer(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	token := issue(t, c, fabric.RoleNode)
	dir := t.TempDir()
	for i := range 2 {
		candidate, err := authority.NewCandidate(dir, "beta", token)
		if err != nil {
			t.Fatal(err)
		}
		q, err := candidate.Request()
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.Registrar.Admit(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue
		}
		if a, err := candidate.Accept(answer); err != nil || a.Identity().Name != "beta" {
			t.Error(err)
		}
	}
}

func TestNoQuorumBurnsNothing(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	token := issue(t, c, fabric.RoleNode)
	q := request(t, "beta", token)
	c.Table.Fail = func(operation, key string) error {
		if operation == "cas" && strings.HasPrefix(key, authority.TokenPrefix) {
			return fabric.ErrNoQuorum
		}
		return nil
	}
	if _, err := c.Registrar.Admit(t.Context(), q); !errors.Is(err, fabric.ErrNoQuorum) {
		t.Fatal(err)
	}
	c.Table.Fail = nil
	if _, err := c.Table.Get(t.Context(), authority.NamePrefix+"beta"); !errors.Is(err, fabric.ErrNotFound) {
		t.Errorf("the name stays taken: %v", err)
	}
	if _, err := c.Registrar.Admit(t.Context(), q); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestNamesAreUnique(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	id := c.First.Identity()
	if err := c.Registrar.ClaimName(t.Context(), id.Name, id.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.Registrar.ClaimName(t.Context(), id.Name, id.ID); err != nil {
		t.Errorf("claiming again: %v", err)
	}
	token := issue(t, c, fabric.RoleNode)
	if _, err := c.Registrar.Admit(t.Context(), request(t, "alpha", token)); !errors.Is(err, authority.ErrNameTaken) {
		t.Errorf("same name: %v", err)
	}
	if _, err := c.Registrar.Admit(t.Context(), request(t, "beta", token)); err != nil {
		t.Errorf("the token is burnt by a taken name: %v", err)
	}
	if _, err := c.Registrar.Admit(t.Context(), request(t, "alpha", issue(t, c, fabric.RoleOperator))); err != nil {
		t.Errorf("a person may have a node's name: %v", err)
	}
}

func TestAcceptDistrusts(t *testing.T) {
	c, evil := authoritytest.NewCluster(t, "alpha"), authoritytest.NewCluster(t, "alpha")
	token := issue(t, c, fabric.RoleNode)
	candidate, err := authority.NewCandidate(t.TempDir(), "beta", token)
	if err != nil {
		t.Fatal(err)
	}
	q, err := candidate.Request()
	if err != nil {
		t.Fatal(err)
	}
	good, err := c.Registrar.Admit(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := evil.Registrar.Admit(t.Context(), request(t, "beta", issue(t, evil, fabric.RoleNode)))
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*authority.Admission){
		"ca":      func(a *authority.Admission) { a.CA = foreign.CA },
		"cert":    func(a *authority.Admission) { a.Certificate = foreign.Certificate },
		"ca key":  func(a *authority.Admission) { a.CAKey = foreign.CAKey },
		"gossip":  func(a *authority.Admission) { a.Gossip = nil },
		"nothing": func(a *authority.Admission) { *a = authority.Admission{} },
	} {
		answer := good
		spoil(&answer)
		if _, err := candidate.Accept(answer); err == nil {
			t.Errorf("answer with a spoilt %s was accepted", name)
		}
	}
	if _, err := candidate.Accept(good); err != nil {
		t.Error(err)
	}
}

func TestAdmitGarbage(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	token := issue(t, c, fabric.RoleNode)
	for _, q := range []authority.Request{
		{},
		{Token: token.Encode()},
		{Token: token.Encode(), Name: "beta", CSR: []byte("garbage")},
		{Token: token.Encode(), Name: "../beta", CSR: request(t, "beta", token).CSR},
	} {
		if _, err := c.Registrar.Admit(context.WithoutCancel(t.Context()), q); err == nil {
			t.Errorf("%+v was admitted", q)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("orrery-aeaaa")
	f.Add("orrery-")
	f.Add(strings.Repeat("orrery-", 20))
	f.Fuzz(func(t *testing.T, s string) {
		token, err := authority.ParseToken(s)
		if err != nil {
			return
		}
		if back, err := authority.ParseToken(token.Encode()); err != nil || back != token {
			t.Errorf("%q does not come back", s)
		}
	})
}
