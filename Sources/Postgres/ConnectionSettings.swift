import CLibpq
import Foundation

/// Whether a pooler in transaction mode, such as PgBouncer, may stand between.
public enum Pooling: Sendable, Equatable {
    /// None may: the connection is for what needs a session, and fails to open behind one.
    case refused
    /// One may; whether it does is found out when the connection is made.
    case detected
    /// One does.
    case expected
}

/// How to reach one database, and what holds on each connection to it.
public struct ConnectionSettings: Sendable, Equatable {
    /// libpq's parameter keywords (PostgreSQL manual, section 34.1.2). What is absent, libpq takes from its own
    /// environment variables, service file and `.pgpass`.
    public var parameters: [String: String]
    public var pooling = Pooling.refused
    public var connectTimeout: Duration = .seconds(10)
    public var statementTimeout: Duration?
    public var lockTimeout: Duration?
    public var idleInTransactionTimeout: Duration?
    /// How long a cancelled statement may take to end before the connection is given up.
    public var drainTimeout: Duration = .seconds(10)
    /// How long a COMMIT may go without an answer before its outcome is looked up on another connection.
    public var commitPatience: Duration = .seconds(60)
    /// How long the outcome of a COMMIT is looked for.
    public var outcomeTimeout: Duration = .seconds(30)
    /// Where names without a schema are looked up. Anybody may create a function or an operator in a schema that he
    /// owns, and the session would run it with its own rights. So only pg_catalog is searched, and pg_temp last,
    /// where it shadows nothing. Code that runs a system's own SQL sets that system's path while the SQL runs.
    public var searchPath = "pg_catalog, pg_temp"
    /// Bytes that one result may hold before its statement is cancelled.
    public var resultLimit = 1 << 30

    public init(parameters: [String: String] = [:]) {
        self.parameters = parameters
    }

    /// Reads a libpq connection string: a URI or `keyword=value` pairs.
    ///
    /// - Throws: `PostgresError` of kind `configuration` that says what is wrong in it and never repeats a password.
    public init(connectionString text: String) throws {
        if let problem = ConnectionStringProblem(text) { throw problem.error }
        var message: UnsafeMutablePointer<CChar>?
        guard let options = PQconninfoParse(text, &message) else {
            defer { PQfreemem(message) }
            let reason = message.map { String(cString: $0) } ?? "no memory"
            let safe = ConnectionStringSecrets(text).masking(reason)
            throw PostgresError(
                .configuration, "invalid connection string: \(safe.trimmingCharacters(in: .whitespacesAndNewlines))",
                hint: "write postgresql://user@host:port/database, or host=… dbname=…")
        }
        defer { PQconninfoFree(options) }
        parameters = [:]
        var option = options
        while let keyword = option.pointee.keyword {
            if let value = option.pointee.val { parameters[String(cString: keyword)] = String(cString: value) }
            option += 1
        }
    }

    /// The same server and session settings, another database.
    public func database(_ name: String) -> ConnectionSettings {
        var copy = self
        copy.parameters["dbname"] = name
        return copy
    }

    /// The same, under another `application_name`.
    public func named(_ application: String) -> ConnectionSettings {
        var copy = self
        copy.parameters["application_name"] = application
        return copy
    }

    /// Host, port, database and user, for messages; never a password.
    public var summary: String {
        let host = parameters["host"] ?? parameters["hostaddr"] ?? parameters["service"].map { "service \($0)" }
        let port = parameters["port"].map { ":\($0)" } ?? ""
        let user = parameters["user"].map { "\($0)@" } ?? ""
        return "\(user)\(host ?? "localhost")\(port)/\(parameters["dbname"] ?? "")"
    }

    /// Keywords of secrets or of files with them (PostgreSQL manual, section 34.1.2; the last three since version 18).
    static let secretKeywords: Set = [
        "password", "passfile", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key",
    ]

    /// The same, without what is secret.
    public var withoutPassword: ConnectionSettings {
        var copy = self
        copy.parameters = parameters.filter { !Self.secretKeywords.contains($0.key) }
        return copy
    }

    /// The parameters as a URI, as libpq and psql read it; with no parameter, the one that takes all from the
    /// environment.
    public var uri: String {
        let pairs = parameters.sorted { $0.key < $1.key }.map { key, value in
            let allowed = CharacterSet.urlQueryAllowed.subtracting(CharacterSet(charactersIn: "&=+?#'"))
            return "\(key)=\(value.addingPercentEncoding(withAllowedCharacters: allowed) ?? value)"
        }
        return "postgresql://" + (pairs.isEmpty ? "" : "?" + pairs.joined(separator: "&"))
    }

    /// What goes to libpq: the parameters, over defaults that notice a peer that is gone.
    var libpqParameters: [String: String] {
        var all = [
            "client_encoding": "UTF8",
            "fallback_application_name": "reeve",
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "3",
            "tcp_user_timeout": "60000",
        ]
        // Only the blocking way of making a connection looks at it; see `ConnectAttempt`.
        if let timeout = addressTimeout { all["connect_timeout"] = String(max(2, timeout.components.seconds)) }
        all.merge(parameters) { _, ours in ours }
        all["client_encoding"] = "UTF8"
        return all
    }

    /// SQL that takes back what the owner of a database sets for all who come (`ALTER DATABASE … SET`), in a case; nil
    /// where another value was asked for. What is set for the user stays. Written for any search path.
    private func takenBack(_ name: String, to value: String, when condition: String, local: Bool) -> String? {
        let asked = [parameters["options"], ProcessInfo.processInfo.environment["PGOPTIONS"]]
        if asked.contains(where: { $0?.contains(name) == true }) { return nil }
        let isSet = "pg_catalog.unnest(s.setconfig) c WHERE pg_catalog.starts_with(c, '\(name)=')"
        return """
            CASE WHEN \(condition) AND EXISTS (
                SELECT FROM pg_catalog.pg_database d, pg_catalog.pg_db_role_setting s, \(isSet)
                    AND pg_catalog.nameeq(d.datname, pg_catalog.current_database())
                    AND pg_catalog.oideq(s.setdatabase, d.oid) AND pg_catalog.oideq(s.setrole, 0)
            ) AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_roles r, pg_catalog.pg_db_role_setting s, \(isSet)
                    AND pg_catalog.nameeq(r.rolname, session_user) AND pg_catalog.oideq(s.setrole, r.oid))
            THEN pg_catalog.set_config('\(name)', '\(value)', \(local)) END
            """
    }

    /// What an owner may set is taken back only in these cases. What works under his role would belong to it, and be
    /// trusted; and what a COMMIT was told to have done would not have reached the disk.
    private func ownersChoices(local: Bool) -> [String] {
        [
            takenBack(
                "role", to: "none", when: "NOT pg_catalog.nameeq(current_user, session_user)", local: local),
            takenBack(
                "synchronous_commit", to: "on",
                when: "pg_catalog.texteq(pg_catalog.current_setting('synchronous_commit'), 'off')", local: local),
        ].compactMap { $0 }
    }

    /// What changes how the text of a statement, or a value in it, is understood. A system's own SQL has them as they are
    /// set for its database.
    public static let pinsOfMeaning = [
        ("array_nulls", "on"), ("transform_null_equals", "off"), ("xmloption", "content"),
    ]

    /// What else the owner of a database may set for all who come, and would change what Reeve does. Not among them is what
    /// only makes a statement fail, such as `default_transaction_read_only`: that may be what he wants.
    private static let pins = [
        // The lexer that splits statements, also those of a system, assumes this setting.
        ("standard_conforming_strings", "on"),
        // Names that are read from the server are compared as text.
        ("quote_all_identifiers", "off"),
        // An error is an answer, not the end of the session.
        ("exit_on_error", "off"),
        // For statements outside of explicit transactions.
        ("default_transaction_isolation", "read committed"),
        // The planner overrates queries of the catalogs, which take less time than their compilation.
        ("jit", "off"),
    ]

    /// Settings of a session or, with `local`, of a transaction, as a statement without parameters.
    func settingsStatement(local: Bool) -> String {
        var settings: [(String, String)] = [
            ("search_path", searchPath), ("DateStyle", "ISO, YMD"), ("IntervalStyle", "iso_8601"), ("TimeZone", "UTC"),
            ("bytea_output", "hex"), ("extra_float_digits", "1"),
            // With `on`, planning evaluates CHECK constraints, which are their owners' code.
            ("constraint_exclusion", "partition"),
        ]
        settings += Self.pins + Self.pinsOfMeaning
        let timeouts = [
            ("statement_timeout", statementTimeout), ("lock_timeout", lockTimeout),
            ("idle_in_transaction_session_timeout", idleInTransactionTimeout),
        ]
        for (name, value) in timeouts {
            if let value { settings.append((name, String(value.milliseconds))) }
        }
        let calls = settings.map { "pg_catalog.set_config(\(quoteLiteral($0)), \(quoteLiteral($1)), \(local))" }
        return "SELECT pg_catalog.pg_backend_pid(), "
            + (calls + ownersChoices(local: local)).joined(separator: ", ")
    }
}
