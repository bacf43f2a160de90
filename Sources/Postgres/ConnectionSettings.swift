import CLibpq
import Foundation
import SQL

/// Whether a pooler in transaction mode, such as PgBouncer, may be between this process and the server.
public enum Pooling: Sendable, Equatable {
    /// No pooler is allowed, because the connection needs a session of its own. Opening the connection behind a pooler
    /// fails.
    case refused
    /// A pooler is allowed. It is detected when the connection is opened.
    case detected
    /// There is a pooler.
    case expected
}

/// How to connect to one database, and the settings of each connection.
public struct ConnectionSettings: Sendable, Equatable {
    /// libpq's parameter keywords (PostgreSQL manual, section 34.1.2). libpq takes missing parameters from its
    /// environment variables, its service file and `.pgpass`.
    public var parameters: [String: String]
    public var pooling = Pooling.refused
    public var connectTimeout: Duration = .seconds(10)
    public var statementTimeout: Duration?
    public var lockTimeout: Duration?
    public var idleInTransactionTimeout: Duration?
    /// The server's setting that ends idle sessions, if this session must not be ended by it: it holds a lock for as
    /// long as other sessions work. The setting exists since PostgreSQL 14.
    public var staysWhenIdle = false
    private var timeoutOfIdleSessions: String? { staysWhenIdle ? "idle_session_timeout" : nil }
    /// How long a cancelled statement may take to end before the connection is closed.
    public var drainTimeout: Duration = .seconds(10)
    /// How long to wait for the answer to COMMIT before its outcome is looked up on another connection.
    public var commitPatience: Duration = .seconds(60)
    /// How long to look up the outcome of a COMMIT whose answer was lost.
    public var outcomeTimeout: Duration = .seconds(30)
    /// The schemas in which names without a schema are looked up. Any role may create a function or an operator in a
    /// schema that it owns, and the session would run that code with its own rights. Therefore only pg_catalog is
    /// searched, followed by pg_temp, so that temporary objects hide no others. Code that runs a system's own SQL sets
    /// that system's search path while the SQL runs.
    public var searchPath = "pg_catalog, pg_temp"
    /// The maximum size of one result, in bytes. A statement with a larger result is cancelled.
    public var resultLimit = 1 << 30

    public init(parameters: [String: String] = [:]) {
        self.parameters = parameters
    }

    /// Reads a libpq connection string: a URI or `keyword=value` pairs.
    ///
    /// - Throws: `PostgresError` of kind `configuration`. Its message describes the mistake and never repeats a
    ///   password.
    public init(connectionString text: String) throws {
        if let problem = ConnectionStringProblem(text) { throw problem.error }
        var message: UnsafeMutablePointer<CChar>?
        guard let options = PQconninfoParse(text, &message) else {
            defer { PQfreemem(message) }
            let reason = message.map { String(cString: $0) } ?? "out of memory"
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

    /// Returns these settings with another database.
    public func database(_ name: String) -> ConnectionSettings {
        var copy = self
        copy.parameters["dbname"] = name
        return copy
    }

    /// Returns these settings with another `application_name`.
    public func named(_ application: String) -> ConnectionSettings {
        var copy = self
        copy.parameters["application_name"] = application
        return copy
    }

    /// Host, port, database and user, for messages. Never contains a password.
    public var summary: String {
        let host = parameters["host"] ?? parameters["hostaddr"] ?? parameters["service"].map { "service \($0)" }
        let port = parameters["port"].map { ":\($0)" } ?? ""
        let user = parameters["user"].map { "\($0)@" } ?? ""
        return "\(user)\(host ?? "localhost")\(port)/\(parameters["dbname"] ?? "")"
    }

    /// The keywords of secrets, and of files that contain secrets (PostgreSQL manual, section 34.1.2). The last three
    /// exist since version 18.
    static let secretKeywords: Set = [
        "password", "passfile", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key",
    ]

    /// These settings without secrets.
    public var withoutPassword: ConnectionSettings {
        var copy = self
        copy.parameters = parameters.filter { !Self.secretKeywords.contains($0.key) }
        return copy
    }

    /// The parameters as a URI that libpq and psql accept. If there are no parameters, libpq takes all of them from the
    /// environment.
    public var uri: String {
        let pairs = parameters.sorted { $0.key < $1.key }.map { key, value in
            let allowed = CharacterSet.urlQueryAllowed.subtracting(CharacterSet(charactersIn: "&=+?#'"))
            return "\(key)=\(value.addingPercentEncoding(withAllowedCharacters: allowed) ?? value)"
        }
        return "postgresql://" + (pairs.isEmpty ? "" : "?" + pairs.joined(separator: "&"))
    }

    /// The parameters that are passed to libpq. Missing parameters get defaults, such as keepalives, with which libpq
    /// detects a lost peer.
    var libpqParameters: [String: String] {
        var all = [
            "client_encoding": "UTF8",
            "fallback_application_name": "reeve",
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "3",
            "tcp_user_timeout": "60000",
        ]
        // Only libpq's blocking functions use this parameter; see `ConnectAttempt`.
        if let timeout = addressTimeout { all["connect_timeout"] = String(max(2, timeout.components.seconds)) }
        all.merge(parameters) { _, ours in ours }
        all["client_encoding"] = "UTF8"
        return all
    }

    /// Settings that are reverted if the owner of the database has made them for all users (`ALTER DATABASE … SET`),
    /// and the SQL condition for it. The owner's other settings are kept. With the setting `role`, objects that Reeve
    /// creates and trusts would belong to a role that the owner has chosen. With `synchronous_commit` off, a
    /// transaction would be reported as committed before it is on disk.
    private static let ownersChoices = [
        (name: "role", value: "none", condition: "NOT pg_catalog.nameeq(current_user, session_user)"),
        (
            name: "synchronous_commit", value: "on",
            condition: "pg_catalog.texteq(pg_catalog.current_setting('synchronous_commit'), 'off')"
        ),
    ]

    /// Columns that revert the `ownersChoices`. A column is NULL if its setting is kept: because the owner has not made
    /// it, or because it was also made for the role. A setting for which the connection options request a value has no
    /// column. The SQL works with any search path.
    private func reversions(local: Bool) -> [String] {
        let asked = [parameters["options"], ProcessInfo.processInfo.environment["PGOPTIONS"]]
        return Self.ownersChoices.filter { choice in asked.allSatisfy { $0?.contains(choice.name) != true } }.map {
            let isSet = "pg_catalog.unnest(s.setconfig) c WHERE pg_catalog.starts_with(c, '\($0.name)=')"
            return """
                CASE WHEN \($0.condition) AND EXISTS (
                    SELECT FROM pg_catalog.pg_database d, pg_catalog.pg_db_role_setting s, \(isSet)
                        AND pg_catalog.nameeq(d.datname, pg_catalog.current_database())
                        AND pg_catalog.oideq(s.setdatabase, d.oid) AND pg_catalog.oideq(s.setrole, 0)
                ) AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_roles r, pg_catalog.pg_db_role_setting s, \(isSet)
                        AND pg_catalog.nameeq(r.rolname, session_user) AND pg_catalog.oideq(s.setrole, r.oid))
                THEN pg_catalog.set_config('\($0.name)', '\($0.value)', \(local)) END AS "\($0.name)"
                """
        }
    }

    /// Returns the names of the settings that `settingsStatement` reverted.
    ///
    /// - Parameter rows: the result of that statement.
    static func reverted(_ rows: Rows) throws -> [String] {
        try ownersChoices.map(\.name).filter { name in
            try rows.columns.contains(name) && rows.first?.get(name, as: String?.self) != nil
        }
    }

    /// Settings that change the meaning of a statement, or of a value in a statement. A system's own SQL runs with the
    /// values that are set for its database.
    public static let pinsOfMeaning = [
        ("array_nulls", "on"), ("transform_null_equals", "off"), ("xmloption", "content"),
    ]

    /// Further settings that the owner of a database may make for all its users and that would change what Reeve does.
    /// Settings that only make a statement fail, such as `default_transaction_read_only`, are not included, because the
    /// owner may want the statement to fail.
    private static let pins = [
        // The lexer that splits statements, including those of a system, relies on this value.
        ("standard_conforming_strings", "on"),
        // Names that the server returns are compared as text.
        ("quote_all_identifiers", "off"),
        // An error must not end the session.
        ("exit_on_error", "off"),
        // This level applies to statements outside of explicit transactions.
        ("default_transaction_isolation", "read committed"),
        // The planner overestimates the cost of queries on the catalogs. Compiling these queries would take longer than
        // running them.
        ("jit", "off"),
    ]

    /// Returns a statement without parameters that makes the settings for the session or, if `local` is true, for the
    /// transaction. The first column of its result is the process ID of the server process.
    ///
    /// - Parameter reverted: the settings that the statement reverted when the session began. The session's defaults
    ///   come from that moment, so the queries that decide what is reverted need not be repeated. They take longer than
    ///   the rest of the statement. nil: unknown.
    func settingsStatement(local: Bool, reverted: [String]? = nil) -> String {
        var settings: [(String, String)] = [
            ("search_path", searchPath), ("DateStyle", "ISO, YMD"), ("IntervalStyle", "iso_8601"), ("TimeZone", "UTC"),
            ("bytea_output", "hex"), ("extra_float_digits", "1"),
            // With `on`, planning a query evaluates CHECK constraints, whose code was written by the owners of the
            // tables.
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
        if let name = timeoutOfIdleSessions { settings.append((name, "0")) }
        if let reverted {
            settings += Self.ownersChoices.filter { reverted.contains($0.name) }.map { ($0.name, $0.value) }
        }
        let calls = settings.map { "pg_catalog.set_config(\(quoteLiteral($0)), \(quoteLiteral($1)), \(local))" }
        return "SELECT pg_catalog.pg_backend_pid(), "
            + (calls + (reverted == nil ? reversions(local: local) : [])).joined(separator: ", ")
    }
}
