import Reporting

/// The databases that a command works on, one after the other.
public enum DatabaseScope {
    /// The result of a command for one database.
    public struct Report: Sendable {
        let object: [String: JSONValue]
        let text: String
        let status: ExitCode

        /// - Parameters:
        ///   - object: a JSON object. The database's name is added as the field `database`, unless the object has that
        ///     field.
        ///   - status: the exit code for this database.
        public init(_ object: JSONValue, _ text: String, _ status: ExitCode = .done) {
            self.object = object.fields ?? [:]
            self.text = text
            self.status = status
        }
    }

    /// Runs `body` for each selected database, and prints the results.
    ///
    /// For one database, prints its object or its text. For several databases, prints `{"databases":[…]}` with the
    /// object of each, or the text of each under a heading.
    ///
    /// - Parameters:
    ///   - heading: returns the heading of a text, from the name of the database.
    ///   - isExact: see `Console.result`.
    /// - Returns: the worst of the statuses (`ExitCode.worst`).
    /// - Throws: the errors of `body`; the databases that follow are then skipped, and nothing is printed.
    public static func forEach(
        _ invocation: Invocation, heading: (String) -> String = { "[\($0)]" }, isExact: Bool = false,
        _ body: (DatabaseConfiguration, Estate) async throws -> Report
    ) async throws -> ExitCode {
        let estate = try invocation.estate()
        var objects: [JSONValue] = []
        var texts: [(name: String, text: String)] = []
        var statuses: [ExitCode] = []
        for one in try estate.selected(invocation.option("database")) {
            let report = try await body(one, estate)
            objects.append(.object(report.object.merging(["database": .string(one.name)]) { own, _ in own }))
            texts.append((one.name, report.text))
            statuses.append(report.status)
        }
        let lines = texts.count == 1 ? texts.map(\.text) : texts.map { "\(heading($0.name))\n\($0.text)" }
        invocation.console.result(
            objects.count == 1 ? objects[0] : ["databases": .array(objects)], text: lines.joined(separator: "\n"),
            isExact: isExact)
        return ExitCode.worst(of: statuses)
    }
}
