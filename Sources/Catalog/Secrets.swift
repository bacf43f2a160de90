import Hashing
import Postgres
import SQL

/// Keeps secrets out of catalogs: the options of foreign servers, user mappings and the like, and the connection
/// strings of subscriptions. A catalog contains a mask instead. A digest, which is never written anywhere, shows
/// whether two catalogs of this process have the same secret.
enum Secrets {
    static let mask = "<hidden>"
    /// The value of a property that the role may not read. It is not compared.
    static let unreadable = "(not readable)"

    /// The key of the digests. It is different in each process, so a digest is of no use to guess a secret.
    private static let key = (0..<32).map { _ in UInt8.random(in: 0...255) }

    /// Returns whether a property may contain secrets.
    static func mayBeIn(_ property: String, of kind: ObjectKind) -> Bool {
        switch (kind, property) {
        case (.foreignServer, "options"), (.userMapping, "options"), (.foreignDataWrapper, "options"),
            (.foreignTable, "foreign options"), (.column, "foreign options"), (.subscription, "connection"):
            true
        default: false
        }
    }

    /// Returns a property without its secrets, and their digest; nil if there are none.
    static func hide(in value: String, of kind: ObjectKind) -> (text: String, digest: [UInt8]?) {
        if value == unreadable { return (value, nil) }
        let pairs =
            kind == .subscription
            ? connection(value) : OptionList(value).pairs.map { (name: $0.name, value: $0.value) }
        guard let pairs else { return (mask, digest(value)) }
        var hidden: [String] = []
        let shown = pairs.map { pair -> (name: String, value: String) in
            guard isSecret(pair.name, pair.value, in: kind) else { return pair }
            hidden += [pair.name, pair.value]
            return (pair.name, mask)
        }
        if hidden.isEmpty, kind != .subscription { return (value, nil) }
        let text = shown.map { OptionList.spelled($0.name, $0.value) }.joined(separator: ", ")
        return (text, hidden.isEmpty ? nil : digest(hidden.map { "\($0.utf8.count):\($0)" }.joined()))
    }

    private static func digest(_ text: String) -> [UInt8] { hmacSHA256(key: key, text.utf8) }

    /// Returns the parameters of a connection string, ordered by name; nil if it cannot be parsed.
    private static func connection(_ text: String) -> [(name: String, value: String)]? {
        guard let settings = try? ConnectionSettings(connectionString: text) else { return nil }
        return settings.parameters.sorted { ExactText.precedes($0.key, $1.key) }.map { ($0.key, $0.value) }
    }

    /// Returns whether an option is secret. Wrappers name their options as they like, so an option is shown only if its
    /// name is known to be harmless, and its value does not look like a secret. Of a user mapping only the user's name
    /// is shown.
    private static func isSecret(_ name: String, _ value: String, in kind: ObjectKind) -> Bool {
        let name = name.lowercased()
        if kind == .userMapping { return !["user", "username"].contains(name) }
        return !harmless.contains(name) || isSecret(value)
    }

    /// Options of libpq (PostgreSQL manual, section 34.1.2), of postgres_fdw and file_fdw (sections F.38 and F.15), and
    /// names that other wrappers use for the same.
    private static let harmless: Set<String> = [
        "host", "hostaddr", "port", "dbname", "database", "user", "username", "application_name", "client_encoding",
        "connect_timeout", "fallback_application_name", "keepalives", "keepalives_idle", "keepalives_interval",
        "keepalives_count", "tcp_user_timeout", "sslmode", "sslcompression", "sslcert", "sslkey", "sslrootcert",
        "sslcrl",
        "sslcrldir", "sslsni", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version", "requirepeer",
        "requiressl", "krbsrvname", "gsslib", "gssencmode", "gssdelegation", "channel_binding", "require_auth",
        "service",
        "target_session_attrs", "load_balance_hosts", "replication", "passfile",
        "schema", "schema_name", "table", "table_name", "column_name", "use_remote_estimate", "fdw_startup_cost",
        "fdw_tuple_cost", "fetch_size", "batch_size", "extensions", "analyze_sampling", "async_capable",
        "parallel_commit", "parallel_abort", "keep_connections", "updatable", "truncatable", "password_required",
        "import_collate", "import_default", "import_generated", "import_not_null", "filename", "format", "header",
        "delimiter", "quote", "escape", "null", "encoding", "force_not_null", "force_null", "rowid", "readonly",
        "charset", "timeout", "region", "bucket", "compression",
    ]

    /// Returns whether a value looks like a connection string, a URL with a user, or text that contains a secret.
    private static func isSecret(_ value: String) -> Bool {
        let text = value.lowercased()
        return text.contains(/[^\s:\/@]+[:\/][^\s@]+@[^\s@]/) || text.hasPrefix("bearer ")
            || text.contains("private key")
            || text.contains(
                /\b(?:[a-z]*pass[a-z]*|pwd|[a-z_-]*key|sig|signature|[a-z_-]*secret|[a-z_-]*token|authorization)["']?\s*[=:]/
            )
    }
}
