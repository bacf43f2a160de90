import Foundation
import FoundationXML

/// What S3's XML answers say. Pure.
enum S3Answer {
    /// An element with its text and those within it, names without prefixes.
    final class Element: NSObject {
        let name: String
        var text = ""
        var children: [Element] = []

        init(_ name: String) { self.name = name }

        subscript(name: String) -> String? { children.first { $0.name == name }?.text }

        func all(_ name: String) -> [Element] { children.filter { $0.name == name } }
    }

    /// An error of the server's.
    struct Failure: Equatable {
        let code: String
        let message: String
    }

    /// - Returns: nil for what is no whole XML document.
    static func parse(_ body: [UInt8]) -> Element? {
        let reader = Reader()
        let parser = XMLParser(data: Data(body))
        parser.delegate = reader
        return parser.parse() ? reader.root : nil
    }

    /// The error that a body holds, which may come with a status of 200.
    static func failure(in body: [UInt8]) -> Failure? {
        // Objects are not looked through for it: an error is short, and begins as XML does.
        guard body.count < 65536, body.first == UInt8(ascii: "<"), let root = parse(body), root.name == "Error" else {
            return nil
        }
        return Failure(code: root["Code"] ?? "Unknown", message: root["Message"] ?? "")
    }

    private final class Reader: NSObject, XMLParserDelegate {
        var root: Element?
        private var open: [Element] = []

        func parser(
            _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
            attributes: [String: String]
        ) {
            let element = Element(name.split(separator: ":").last.map(String.init) ?? name)
            open.last?.children.append(element)
            if root == nil { root = element }
            open.append(element)
        }

        func parser(_ parser: XMLParser, foundCharacters string: String) { open.last?.text += string }

        func parser(
            _ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?
        ) {
            open.removeLast()
        }
    }
}
