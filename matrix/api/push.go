package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"orrery/matrix/canonical"
	"orrery/matrix/push"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// pushRoutes are a user's push rules (clause client-server API, push rules API).
func (a *API) pushRoutes() {
	a.in("GET pushrules/{$}", func(q *request) (any, error) {
		rules, err := a.Syncer.Rules(q.Context(), q.login.User)
		return map[string]any{"global": rules}, err
	})
	a.in("GET pushrules/global/{$}", func(q *request) (any, error) { return a.Syncer.Rules(q.Context(), q.login.User) })
	rule := func(q *request) (push.Rule, error) {
		rules, err := a.Syncer.Rules(q.Context(), q.login.User)
		if err != nil {
			return push.Rule{}, err
		}
		return rules.Find(push.Kind(q.PathValue("kind")), q.PathValue("rule"))
	}
	const path = "pushrules/global/{kind}/{rule}"
	a.in("GET "+path, func(q *request) (any, error) { return rule(q) })
	a.in("GET "+path+"/enabled", func(q *request) (any, error) {
		r, err := rule(q)
		return map[string]bool{"enabled": r.Enabled}, err
	})
	a.in("GET "+path+"/actions", func(q *request) (any, error) {
		r, err := rule(q)
		return map[string]any{"actions": r.Actions}, err
	})
	a.in("PUT "+path, a.putRule)
	a.in("DELETE "+path, func(q *request) (any, error) {
		return a.changeRules(q, func(rules push.Rules) error {
			return rules.Remove(push.Kind(q.PathValue("kind")), q.PathValue("rule"))
		})
	})
	a.in("PUT "+path+"/enabled", func(q *request) (any, error) {
		v := q.body.Get("enabled")
		if v.Kind() != canonical.Bool {
			return nil, badJSON("enabled is neither true nor false")
		}
		return a.changeRule(q, func(r *push.Rule) { r.Enabled = v.IsTrue() })
	})
	a.in("PUT "+path+"/actions", func(q *request) (any, error) {
		actions, err := readActions(q)
		if err != nil {
			return nil, err
		}
		return a.changeRule(q, func(r *push.Rule) { r.Actions = actions })
	})
}

func readActions(q *request) ([]json.RawMessage, error) {
	v := q.body.Get("actions")
	if v.Kind() != canonical.Array {
		return nil, missing("actions")
	}
	all := []json.RawMessage{}
	for a := range v.Elements {
		if a.Kind() != canonical.String && a.Get("set_tweak").Kind() != canonical.String {
			return nil, badJSON("an action is neither a string nor a tweak")
		}
		all = append(all, a.JSON()) // also those that mean nothing any more, dont_notify and coalesce: older clients look for them
	}
	return all, nil
}

func (a *API) putRule(q *request) (any, error) {
	var r push.Rule
	if err := q.into(&r); err != nil {
		return nil, err
	}
	actions, err := readActions(q)
	if err != nil {
		return nil, err
	}
	kind := push.Kind(q.PathValue("kind"))
	r.ID, r.Default, r.Actions = q.PathValue("rule"), false, actions
	if kind == push.Postcontent {
		return nil, invalidParam("rules of kind postcontent are the server's only")
	}
	if kind == push.Content && r.Pattern == nil {
		return nil, missing("pattern")
	}
	return a.changeRules(q, func(rules push.Rules) error {
		err := rules.Put(kind, r, q.URL.Query().Get("before"), q.URL.Query().Get("after"))
		if errors.Is(err, push.ErrNotFound) {
			err = fail(http.StatusBadRequest, "M_UNKNOWN", err.Error())
		}
		return err
	})
}

func (a *API) changeRule(q *request, with func(*push.Rule)) (any, error) {
	return a.changeRules(q, func(rules push.Rules) error {
		return rules.Change(push.Kind(q.PathValue("kind")), q.PathValue("rule"), with)
	})
}

// changeRules changes a user's push rules, which all devices are told as account data.
func (a *API) changeRules(q *request, with func(push.Rules) error) (any, error) {
	if !slices.Contains(push.Kinds, push.Kind(q.PathValue("kind"))) {
		return nil, invalidParam("there are no rules of kind " + q.PathValue("kind"))
	}
	user := q.login.User
	err := a.Stream.Update(q.Context(), func(tx table.Tx, advance func(int) (int64, error)) error {
		rules, err := a.Syncer.ReadRules(tx, user)
		if err != nil {
			return err
		}
		if err := with(rules); err != nil {
			return err
		}
		text, err := json.Marshal(map[string]any{"global": rules})
		if err != nil {
			return err
		}
		position, err := advance(1)
		if err != nil {
			return err
		}
		return store.AllAccountData.Put(tx, store.AccountData{User: user, Type: sync.PushRules, Position: position, JSON: text})
	}, nil)
	a.Syncer.Wake(user)
	return empty, err
}
