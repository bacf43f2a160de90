import Foundation
import FoundationXML

/// Parses the XML bodies of S3 responses. Pure.
enum S3Answer {
    /// An XML element with its text and its child elements. Names have no namespace prefix.
    final class Element: NSObject {
        let name: String
        var text = ""
        var children: [Element] = []

        init(_ name: String) { self.name = name }

        subscript(name: String) -> String? { children.first { $0.name == name }?.text }

        func all(_ name: String) -> [Element] { children.filter { $0.name == name } }
    }

    /// An error that the server reported.
    struct Failure: Equatable {
        let code: String
        let message: String
    }

    /// Parses the XML document in a response body.
    ///
    /// - Returns: nil if the body is not a complete XML document.
    static func parse(_ body: [UInt8]) -> Element? {
        let reader = Reader()
        let parser = XMLParser(data: Data(body))
        parser.delegate = reader
        return parser.parse() ? reader.root : nil
    }

    /// Returns the error in a response body. A response with an error in its body may have the status 200.
    static func failure(in body: [UInt8]) -> Failure? {
        // The data of objects is not parsed: the body of an error is short and begins with "<".
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
