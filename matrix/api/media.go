package api

import (
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"orrery/matrix/store"
)

// mediaRoutes are what users upload and see (clause client-server API, content repository).
func (a *API) mediaRoutes() {
	for _, path := range []string{"GET /_matrix/client/v1/media/config", "GET /_matrix/media/v3/config"} {
		a.in(path, func(*request) (any, error) { return map[string]int64{"m.upload.size": a.Media.MaxSize()}, nil })
	}
	for _, path := range []string{"GET /_matrix/client/v1/media/preview_url", "GET /_matrix/media/v3/preview_url"} {
		a.in(path, func(q *request) (any, error) {
			if a.Previews == nil {
				return nil, fail(http.StatusNotFound, "M_UNRECOGNIZED", "this server makes no previews")
			}
			return a.Previews.Of(q.Context(), q.login.User, q.URL.Query().Get("url"))
		})
	}
	a.in("POST /_matrix/media/v3/upload", func(q *request) (any, error) {
		row, err := a.Media.Upload(q.Context(), q.login.User, contentType(q), q.URL.Query().Get("filename"), q.upload(a.Media.MaxSize()))
		return map[string]string{"content_uri": "mxc://" + a.Server + "/" + row.ID}, err
	})
	a.in("POST /_matrix/media/v1/create", func(q *request) (any, error) {
		row, err := a.Media.Reserve(q.Context(), q.login.User)
		return map[string]any{"content_uri": "mxc://" + a.Server + "/" + row.ID, "unused_expires_at": row.Expires}, err
	})
	a.in("PUT /_matrix/media/v3/upload/{server}/{id}", func(q *request) (any, error) {
		if q.PathValue("server") != a.Server {
			return nil, forbidden("this is another server's media")
		}
		return empty, a.Media.Fill(q.Context(), q.login.User, q.PathValue("id"), contentType(q), q.URL.Query().Get("filename"), q.upload(a.Media.MaxSize()))
	})
	for _, path := range []string{"GET /_matrix/client/v1/media/download/{server}/{id}", "GET /_matrix/client/v1/media/download/{server}/{id}/{name}"} {
		a.in(path, a.download)
	}
	a.in("GET /_matrix/client/v1/media/thumbnail/{server}/{id}", a.thumbnail)
	a.frozenRoutes()
}

// frozenRoutes are downloads at the paths of before there were logins for media. "Any media uploaded after the freeze SHOULD only be accessible through the new, authenticated,
// endpoints", and this server froze them on its first day, unless it is told not to: "servers SHOULD consider their local ecosystem impact before enacting a freeze".
func (a *API) frozenRoutes() {
	for _, version := range []string{"v3", "v1"} { // and r0, as of all that is v3
		for path, serve := range map[string]handler{
			"download/{server}/{id}": a.download, "download/{server}/{id}/{name}": a.download, "thumbnail/{server}/{id}": a.thumbnail,
		} {
			a.route("GET /_matrix/media/"+version+"/"+path, a.handler(a.frozen(a.loggedIn("GET /_matrix/client/v1/media/"+path, serve), serve)))
		}
	}
}

// frozen serves media without a login where that is allowed. Clients of before the freeze that show their token all the same get what they would at the new path.
func (a *API) frozen(in, serve handler) handler {
	return func(q *request) (any, error) {
		open := a.OpenMedia || a.isIcon("mxc://"+q.PathValue("server")+"/"+q.PathValue("id"))
		if !open && (q.Header.Get("Authorization") != "" || q.URL.Query().Get("access_token") != "") {
			return in(q)
		}
		if err := a.admitOpen(q); err != nil {
			return nil, err
		}
		if !open {
			return nil, notFound("media are for those who are logged in (GET /_matrix/client/v1/media/...)")
		}
		return serve(q)
	}
}

// isIcon says whether media are the icon of an identity provider, which is shown to those who are not logged in yet.
func (a *API) isIcon(uri string) bool {
	for _, p := range a.Providers {
		if p.Icon == uri {
			return true
		}
	}
	return false
}

func contentType(q *request) string {
	if t := q.Header.Get("Content-Type"); t != "" {
		return t
	}
	return "application/octet-stream"
}

// upload is the body, up to a little more than the limit.
func (q *request) upload(most int64) io.Reader { return http.MaxBytesReader(q.w, q.Body, most+1) }

// uploadTimeout is how long a download waits for a content that is still to be uploaded, if the client does not say (clause client-server API, GET download).
const uploadTimeout = 20 * time.Second

func (a *API) media(q *request) (store.Media, error) {
	if q.PathValue("server") != a.Server {
		return store.Media{}, notFound("media of other servers are not fetched yet")
	}
	wait := uploadTimeout
	if s := q.URL.Query().Get("timeout_ms"); s != "" {
		var err error
		if wait, err = timeout(s); err != nil {
			return store.Media{}, err
		}
	}
	return a.Media.Await(q.Context(), q.PathValue("id"), wait)
}

// inline are the types that browsers may show; all others are saved (clause client-server API, serving inline content).
var inline = []string{
	"text/css", "text/plain", "text/csv", "application/json", "application/ld+json", "image/jpeg", "image/gif", "image/png", "image/apng", "image/webp", "image/avif",
	"video/mp4", "video/webm", "video/ogg", "video/quicktime", "audio/mp4", "audio/webm", "audio/aac", "audio/mpeg", "audio/ogg", "audio/wave", "audio/wav", "audio/x-wav",
	"audio/x-pn-wav", "audio/flac", "audio/x-flac",
}

func (a *API) download(q *request) (any, error) {
	row, err := a.media(q)
	if err != nil {
		return nil, err
	}
	f, err := a.Media.Content(row)
	if err != nil {
		return nil, err
	}
	if name := q.PathValue("name"); name != "" {
		row.Name = name
	}
	return nil, serve(q, f, row.Type, row.Name)
}

// serve sends a file, and closes it.
func serve(q *request, f *os.File, kind, name string) error {
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	how := "attachment"
	if plain, _, err := mime.ParseMediaType(kind); err == nil && slices.Contains(inline, plain) {
		how = "inline"
	}
	params := map[string]string{}
	if name != "" {
		params["filename"] = name
	}
	h := q.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", mime.FormatMediaType(how, params))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; object-src 'self';")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	http.ServeContent(q.w, q.Request, "", info.ModTime(), f)
	return nil
}

func (a *API) thumbnail(q *request) (any, error) {
	query := q.URL.Query()
	width, errW := strconv.Atoi(query.Get("width"))
	height, errH := strconv.Atoi(query.Get("height"))
	if errW != nil || errH != nil || width <= 0 || height <= 0 {
		return nil, invalidParam("width and height are numbers of pixels")
	}
	row, err := a.media(q)
	if err != nil {
		return nil, err
	}
	f, kind, err := a.Media.Thumbnail(q.Context(), row, width, height, query.Get("method") == "crop")
	if err != nil {
		return nil, err
	}
	return nil, serve(q, f, kind, "")
}
