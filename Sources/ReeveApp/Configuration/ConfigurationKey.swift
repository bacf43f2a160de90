/// A key of the configuration: where it stands, what its value is, and what it is for.
///
/// Validation, environment variables, `config show` and the reference are all made from the table of these.
struct ConfigurationKey: Sendable {
    enum Kind: Sendable, Equatable {
        case text
        case path
        /// A connection string; what it holds of passwords is never shown.
        case url
        case integer(ClosedRange<Int>)
        case boolean
        case duration(ClosedRange<Duration>)
        case list
        /// A mapping from patterns to the reasons for them.
        case reasons
        case choice([String])
        case schedule
        case zone
        case listen

        static let duration = Kind.duration(WrittenDuration.all)
        /// Within which something has to be done, so that none at all would be no time to do it.
        static let limit = Kind.duration(WrittenDuration.limits)
        /// Long enough that nobody still asks for what goes.
        static let keep = Kind.duration(.seconds(86400)...WrittenDuration.longest)
        static let serverDuration = Kind.duration(WrittenDuration.ofServer)
    }

    /// The words of the path; `*` stands for a name that is the user's to choose.
    let path: [String]
    let kind: Kind
    let fallback: String?
    let summary: String

    init(_ path: String, _ kind: Kind, _ fallback: String? = nil, _ summary: String) {
        self.path = path.split(separator: ".").map(String.init)
        self.kind = kind
        self.fallback = fallback
        self.summary = summary
    }

    var dotted: String { path.joined(separator: ".") }

    func matches(_ words: [String]) -> Bool {
        words.count == path.count && zip(path, words).allSatisfy { $0 == "*" || $0 == $1 }
    }

    /// `REEVE_` and the path in capitals.
    static func environmentName(_ path: [String]) -> String {
        let words = path.map { String($0.uppercased().map { $0.isLetter || $0.isNumber ? $0 : "_" }) }
        return "REEVE_" + words.joined(separator: "_")
    }

    /// All keys.
    static let all: [ConfigurationKey] = [
        ConfigurationKey(
            "state", .path, nil,
            "Folder for the embedded PostgreSQL and other state. As root /var/lib/reeve, else $XDG_STATE_HOME/reeve."),
        ConfigurationKey(
            "database.url", .url, nil, "The one database, as a libpq connection string. Short form: `database: URL`."),
        ConfigurationKey(
            "database.direct_url", .url, nil,
            "The server itself, where `url` leads to a pooler; needed for locks, LISTEN and migrations."),
        ConfigurationKey("database.replica_url", .url, nil, "A read replica of it."),
        ConfigurationKey(
            "database.systems", .list, nil,
            "The systems that this database holds: names of shipped systems, or folders."),
        ConfigurationKey("database.options", .list, nil, "Opt-in migrations that are wanted, as system/option."),
        ConfigurationKey("databases.*.url", .url, nil, "One of several databases, under its name."),
        ConfigurationKey("databases.*.direct_url", .url, nil, "As database.direct_url."),
        ConfigurationKey("databases.*.replica_url", .url, nil, "As database.replica_url."),
        ConfigurationKey("databases.*.systems", .list, nil, "As database.systems."),
        ConfigurationKey("databases.*.options", .list, nil, "As database.options."),
        ConfigurationKey(
            "systems", .list, nil,
            "The systems of every database that names none. On the embedded PostgreSQL the five shipped ones."),
        ConfigurationKey(
            "schemas.*", .text, nil,
            "The PostgreSQL schema of a system, where it is not the one that its system.yaml names; may be public."),
        ConfigurationKey(
            "pool.size", .integer(1...1000), "10", "Connections that are kept open. Also DATABASE_POOL_SIZE."),
        ConfigurationKey(
            "pool.max_overflow", .integer(0...1000), "20",
            "Connections beyond that in a rush. Also DATABASE_MAX_OVERFLOW."),
        ConfigurationKey("pool.wait", .duration, "30s", "How long to wait for a free connection."),
        ConfigurationKey(
            "connect_timeout", .limit, "10s",
            "How long a connection may take to be made; more than 0s. A connect_timeout in the connection string goes "
                + "before it, and there 0 is for ever, as in libpq."),
        ConfigurationKey("migrate.lock_wait", .duration, "60s", "How long to wait for another run of migrations."),
        ConfigurationKey(
            "migrate.lock_timeout", .serverDuration, "3s",
            "How long a statement of a migration may wait for a lock, and hold up the application behind it."),
        ConfigurationKey(
            "migrate.retries", .integer(0...1000), "10",
            "How often a migration that did not get its locks is tried again."),
        ConfigurationKey(
            "migrate.trusted_roles", .list, nil,
            "Roles that may create objects in a system's schema although a superuser migrates it, and could so gain his "
                + "rights."),
        ConfigurationKey(
            "validate.scratch", .choice(["auto", "always", "never"]), "auto",
            "Whether migrations are replayed into a scratch database on the server. auto: where the role may make one, "
                + "else the committed schema.snapshot files serve."),
        ConfigurationKey(
            "validate.owner", .text, nil,
            "The role that owns what migrations make, where it is not the one that connects; any: do not compare owners."
        ),
        ConfigurationKey(
            "validate.ignore", .reasons, nil,
            "Differences that are accepted: what the report's lines begin with (* for any characters), each with its "
                + "reason."),
        ConfigurationKey(
            "backup.repository", .list, nil,
            "Where backups lie: folders, best on another machine's disk, and s3://BUCKET/PREFIX?endpoint=URL; each backup goes into all of them. Without one there are no backups."
        ),
        ConfigurationKey(
            "backup.call_limit", .limit, "2min",
            "How long one call to a repository may take: a listing, a removal, a manifest."),
        ConfigurationKey(
            "backup.stall_limit", .limit, "5min",
            "How long a part that is written or read may not move; a repository that is slower is left out."),
        ConfigurationKey(
            "backup.hung_calls", .integer(1...1000), "4",
            "Beside how many calls to a repository that have not come back further ones fail at once."),
        ConfigurationKey("backup.bandwidth", .integer(1...100_000), nil, "The most MiB a second that a backup writes."),
        ConfigurationKey(
            "backup.check_room", .boolean, "yes",
            "Whether a folder without room for about what is expected is left out."),
        ConfigurationKey(
            "backup.role_passwords", .boolean, "no",
            "Whether the roles' passwords, as the server keeps them, are backed up; needs a superuser."),
        ConfigurationKey(
            "backup.hooks.before", .text, nil, "A shell command to run before a backup; when it fails, there is none."),
        ConfigurationKey(
            "backup.hooks.after", .text, nil,
            "A shell command to run after a backup, whatever became of it; REEVE_BACKUP_STATE is done or failed."),
        ConfigurationKey(
            "backup.hooks.restored", .text, nil,
            "A shell command to run after a restore, before anybody may connect; REEVE_RESTORE_URL is the database, "
                + "without a password."),
        ConfigurationKey(
            "backup.hooks.environment", .list, nil,
            "The variables that hooks get beside PATH, HOME, LANG, LC_ALL, TMPDIR, TZ and their own REEVE_…; they start in /."
        ),
        ConfigurationKey(
            "backup.verify_percent", .integer(1...100), "10", "The share of the parts that the task verify reads."),
        ConfigurationKey(
            "backup.recipients", .list, nil,
            "The age recipients who can read the backups, as 'reeve backup key new' prints them."),
        ConfigurationKey(
            "backup.encryption", .choice(["age", "none"]), "age", "none: backups are not encrypted."),
        ConfigurationKey(
            "backup.identity", .path, nil,
            "The file with the age identity, for restore tests on a machine that may read the backups."),
        ConfigurationKey(
            "backup.keep.daily", .integer(0...10_000), "7", "For so many days the newest proven backup of each stays."),
        ConfigurationKey("backup.keep.weekly", .integer(0...10_000), "5", "The same for weeks."),
        ConfigurationKey("backup.keep.monthly", .integer(0...10_000), "12", "The same for months."),
        ConfigurationKey(
            "backup.keep.at_least", .integer(1...10_000), "3", "The newest backups that stay in any case."),
        ConfigurationKey("backup.keep.within", .duration, "0s", "Every backup that is younger stays, proven or not."),
        ConfigurationKey("backup.jobs", .integer(1...64), "2", "Dumps, or restores, that run at once."),
        ConfigurationKey(
            "log.level", .choice(["debug", "info", "notice", "warning", "error"]), "info",
            "The least level that is logged."),
        ConfigurationKey(
            "log.format", .choice(["auto", "text", "json"]), "auto", "auto: text on a terminal, JSON otherwise."),
        ConfigurationKey(
            "http.listen", .listen, "127.0.0.1:7433",
            "Where /metrics, /livez and /readyz are served: host:port, [host]:port, unix:/path, or off. Other than loopback "
                + "and sockets needs http.remote."),
        ConfigurationKey(
            "http.remote", .boolean, "no",
            "Whether http.listen may be an address that other machines reach. Nobody is asked who they are there, and "
                + "nothing but those three is answered."),
        ConfigurationKey(
            "http.hosts", .list, nil,
            "Names under which the server may be asked, beside localhost, IP addresses and that of http.listen; others are "
                + "refused, so that no page in a browser reaches it by a name of its own (DNS rebinding)."),
        ConfigurationKey(
            "ledger.keep.runs", .keep, "90d",
            "How long the ledger keeps runs, occurrences and attempts at backups; the newest run of a task stays."),
        ConfigurationKey("ledger.keep.events", .keep, "30d", "The same for events."),
        ConfigurationKey("ledger.keep.findings", .keep, "90d", "The same for findings, from when they were cleared."),
        ConfigurationKey(
            "audit.key", .path, nil,
            "The file with the key of the audit chain's anchors, made when it is not there; audit.key in the state folder."
        ),
        ConfigurationKey("drain", .duration, "30s", "How long work that runs may take to end after SIGTERM."),
        ConfigurationKey(
            "tasks.*.enabled", .boolean, nil,
            "Whether the schedule runs the task. migrate is off unless switched on, or on the embedded PostgreSQL."),
        ConfigurationKey(
            "tasks.*.schedule", .schedule, nil,
            "When: a cron expression of five fields, or @hourly, @daily, @weekly, @monthly, @yearly."),
        ConfigurationKey(
            "tasks.*.every", .duration, nil, "Instead of a schedule: an interval, counted from 1970-01-01T00:00:00Z."),
        ConfigurationKey("tasks.*.zone", .zone, "UTC", "The IANA time zone of the schedule."),
        ConfigurationKey(
            "tasks.*.jitter", .duration, nil, "Each run begins up to this much later, so that not all begin at once."),
        ConfigurationKey("tasks.*.timeout", .limit, nil, "How long one attempt may take; more than 0s."),
        ConfigurationKey("tasks.*.retries", .integer(0...100), nil, "How often a failed run is tried again."),
        ConfigurationKey("tasks.*.backoff", .duration, nil, "The pause before the first retry; it doubles each time."),
    ]
}
