package adminpage

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"orrery/matrix/admin"
	"orrery/matrix/page"
)

var reportFilters = []choice{{"", "all"}, {admin.OfEvents, "events"}, {admin.OfRooms, "rooms"}, {admin.OfUsers, "users"}}

// report is a report as it is listed.
type report struct {
	admin.Report

	RoomName string // "" if the room is gone
	Body     string // of the message
	Type     string // of the event, "" if it is gone
}

func (p *Pages) reports(v *visit) error {
	from := number(v.FormValue("from"))
	found, total, err := p.c.Admin.Reports(v.Context(), admin.ReportQuery{Kind: v.FormValue("show"), From: from, Limit: perPage})
	if err != nil {
		return err
	}
	var shown []report
	for _, r := range found {
		shown = append(shown, p.about(v, r))
	}
	return v.render(http.StatusOK, "reports", map[string]any{"Title": "Reports", "Reports": shown, "List": v.list(total, len(shown), from), "Filters": reportFilters})
}

// about is a report with what can be said of its room and event, if they are still there.
func (p *Pages) about(v *visit, r admin.Report) report {
	one := report{Report: r}
	if r.Room == "" {
		return one
	}
	about, err := p.c.Admin.Room(v.Context(), r.Room)
	if err != nil {
		return one
	}
	one.RoomName = about.Called()
	in, err := p.c.Admin.Rooms.Find(v.Context(), r.Room)
	if err != nil || r.Event == "" {
		return one
	}
	if e, err := in.Event(v.Context(), r.Event); err == nil {
		one.Type, one.Body = e.Type(), e.Content().Get("body").String()
	}
	return one
}

func (p *Pages) reportActions() map[string]action {
	return map[string]action{"reports/{report}/resolve": {
		title: "Resolve the report", plain: true, back: same("reports"),
		do: func(v *visit) (string, error) {
			id, err := strconv.ParseInt(v.PathValue("report"), 10, 64)
			if err != nil {
				return "", &page.Problem{Status: http.StatusNotFound, Text: "There is no such report."}
			}
			return "The report is resolved.", p.c.Admin.Resolve(v.Context(), id)
		},
	}}
}

func (p *Pages) tokens(v *visit) error {
	all, err := p.c.Accounts.Invitations(v.Context())
	if err != nil {
		return err
	}
	return v.render(http.StatusOK, "tokens", map[string]any{"Title": "Registration tokens", "Tokens": all, "Now": p.c.Now()})
}

func (p *Pages) tokenActions() map[string]action {
	return map[string]action{
		"tokens/make": {
			title: "Make a token", plain: true, back: same("tokens"),
			do: func(v *visit) (string, error) {
				uses, err := strconv.ParseInt("0"+v.PostFormValue("uses"), 10, 64)
				days, daysErr := strconv.Atoi("0" + v.PostFormValue("days"))
				if err != nil || daysErr != nil || days > 36500 {
					return "", &page.Problem{Status: http.StatusBadRequest, Text: "How often a token counts, and for how many days, are numbers."}
				}
				var until time.Time
				if days > 0 {
					until = p.c.Now().AddDate(0, 0, days)
				}
				t, err := p.c.Accounts.Invite(v.Context(), strings.TrimSpace(v.PostFormValue("token")), uses, until)
				return "The token is " + t.Token, wrong(err)
			},
		},
		"tokens/{token}/delete": {
			title: "Delete the token", back: same("tokens"),
			says: func(v *visit) ([]string, error) {
				t, err := p.c.Accounts.Invitation(v.Context(), v.PathValue("token"))
				return []string{"Nobody makes an account by the token " + t.Token + " any more.", fmt.Sprintf("The %s that were made by it stay.", count(int(t.Used), "account"))}, err
			},
			do: func(v *visit) (string, error) {
				return "The token was deleted.", p.c.Accounts.Uninvite(v.Context(), v.PathValue("token"))
			},
		},
	}
}
