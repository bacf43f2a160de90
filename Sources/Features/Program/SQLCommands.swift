import Foundation
import Kernel
import Postgres
import Reporting
import SQL

/// The commands `reeve sql …`.
enum SQLCommands {
    static let all = [split]

    static let split = CommandSpec(
        noun: "sql", verb: "split", summary: "show how a script is split into statements",
        discussion: "Splits the script as psql does: quotes, dollar quotes, nested comments, BEGIN ATOMIC bodies and "
            + "COPY data are kept whole. Offsets and lengths are in bytes.",
        arguments: [ArgumentSpec(name: "FILE", help: "the script, or - for standard input")],
        options: [.flag("count", "print only the number of statements")]
    ) { invocation in
        let path = invocation.arguments.positional[0]
        let source = try read(path)
        let statements = try SQLLexer.split(source, file: path)
        if invocation.has("count") {
            invocation.console.result(["count": .int(statements.count)], text: String(statements.count))
            return .done
        }
        invocation.console.result(
            [
                "statements": .array(
                    statements.map {
                        ["offset": .int($0.range.lowerBound), "length": .int($0.range.count), "line": .int($0.line)]
                    })
            ],
            text: statements.map { statement in
                let text = String(decoding: source[statement.range].prefix(200), as: UTF8.self)
                let line = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
                let shown = line.count > 60 ? line.prefix(59) + "…" : line[...]
                return "\(path):\(statement.line)  \(statement.range.lowerBound)+\(statement.range.count)  \(shown)"
            }.joined(separator: "\n"))
        return .done
    }

    private static func read(_ path: String) throws -> [UInt8] {
        if path == "-" { return Array(FileHandle.standardInput.readDataToEndOfFile()) }
        guard let data = try? Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped) else {
            throw UsageError("\(path) cannot be read")
        }
        return Array(data)
    }
}
